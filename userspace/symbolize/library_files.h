// SPDX-License-Identifier: Apache-2.0
// Is a source file of the standard library or of an installed package, or the program's own?
//
// Asked of the file system that the process sees, as CPython itself does when it starts: a standard library is a folder
// that holds its landmarks, and packages are installed where a Python has its prefix. A folder's name alone says
// nothing: programs lie below /srv/lib/python too.
#pragma once

#include <map>
#include <string>

#include "process/python_layouts.h"
#include "symbolize/source_files.h"

namespace memtrace {

class LibraryFiles {
  public:
    // Without files, or of a process whose root could not be opened, folders' names have to do.
    LibraryFiles(const SourceFiles *files, const PythonVersion &version);

    // "<frozen os>" and other names in brackets are the library's; whether "<string>" is, the caller knows.
    bool has(const std::string &file);

  private:
    bool is_library_folder(const std::string &folder);
    bool is_standard_library(const std::string &folder) const;
    bool is_prefix(const std::string &folder) const;
    bool holds_python(const std::string &folder) const;
    bool looks_installed(const std::string &file) const;

    const SourceFiles *files_;
    std::string version_;                  // "3.11"
    std::map<std::string, bool> folders_;  // that were asked for
};

}  // namespace memtrace
