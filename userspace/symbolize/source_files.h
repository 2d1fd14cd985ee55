// SPDX-License-Identifier: Apache-2.0
// The target's source lines, read from the target's own root and working directory.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/file_descriptor.h"

namespace memtrace {

// One process's view of the file system. Opened while the process lives, usable after it has gone.
//
// The target chose the names and memtrace runs as root, so a file is read only when the process itself could have
// (its owner's, or everybody's, or the process is root's), only when it is a regular file, and never out of its root.
class SourceFiles {
  public:
    SourceFiles() = default;  // knows no file
    explicit SourceFiles(int pid);

    // Whether anything can be asked: not of a process that had gone.
    bool can_look() const {
        return static_cast<bool>(root_);
    }
    // Whether there is a file, or a folder, of this name.
    bool exists(const std::string &file) const;
    // The text of a line, without its end; null when there is no such line or file. Lines count from 1.
    std::optional<std::string> line(const std::string &file, int number);

  private:
    // From the root on; empty when it is relative to a folder that is not known.
    std::string full_path(const std::string &file) const;
    std::vector<std::string> read_lines(const std::string &file) const;

    FileDescriptor root_;
    FileDescriptor cwd_;
    unsigned uid_ = ~0u;
    std::map<std::string, std::vector<std::string>> files_;
};

}  // namespace memtrace
