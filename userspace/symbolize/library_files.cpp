// SPDX-License-Identifier: Apache-2.0
#include "symbolize/library_files.h"

#include <fmt/format.h>

namespace memtrace {

namespace {

// The process chose the names, and each costs some system calls.
constexpr size_t kMaxFolders = 10'000;

// "/usr/lib" of "/usr/lib/os.py"; empty of a name without a folder.
std::string parent(const std::string &path) {
    size_t slash = path.rfind('/');
    return slash == std::string::npos ? "" : path.substr(0, slash);
}

std::string last_part(const std::string &path) {
    return path.substr(path.rfind('/') + 1);
}

}  // namespace

LibraryFiles::LibraryFiles(const SourceFiles *files, const PythonVersion &version)
    : files_(files && files->can_look() ? files : nullptr),
      version_(fmt::format("{}.{}", version.major, version.minor)) {}

bool LibraryFiles::has(const std::string &file) {
    if (file.starts_with('<'))
        return true;
    return files_ ? is_library_folder(parent(file)) : looks_installed(file);
}

bool LibraryFiles::is_library_folder(const std::string &folder) {
    if (folder.empty())
        return false;
    auto known = folders_.find(folder);
    if (known != folders_.end())
        return known->second;
    if (folders_.size() >= kMaxFolders)
        return looks_installed(folder + "/");
    std::string name = last_part(folder);
    bool is_one = is_standard_library(folder) ||
                  ((name == "site-packages" || name == "dist-packages") && is_prefix(parent(parent(parent(folder))))) ||
                  is_library_folder(parent(folder));
    return folders_[folder] = is_one;
}

// getpath.py looks for os.py or os.pyc; a program may have a file of that name, and hardly all three.
bool LibraryFiles::is_standard_library(const std::string &folder) const {
    auto has_module = [&](const char *name) {
        return files_->exists(folder + name + ".py") || files_->exists(folder + name + ".pyc");
    };
    return has_module("/os") && has_module("/site") && has_module("/encodings/__init__");
}

// sys.prefix of some Python: of this interpreter, of a virtual environment, or where users install (site.USER_BASE).
// Debian has /usr/local beside /usr.
bool LibraryFiles::is_prefix(const std::string &folder) const {
    if (folder.empty())
        return false;
    if (files_->exists(folder + "/pyvenv.cfg"))
        return true;
    for (const char *library : {"/lib/python", "/lib64/python"})
        for (const char *build : {"", "t"})
            if (is_standard_library(folder + library + version_ + build))
                return true;
    std::string name = last_part(folder);
    return name == ".local" || (name == "local" && is_prefix(parent(folder)));
}

bool LibraryFiles::looks_installed(const std::string &file) const {
    return file.find(fmt::format("/lib/python{}/", version_)) != std::string::npos ||
           file.find("/site-packages/") != std::string::npos || file.find("/dist-packages/") != std::string::npos;
}

}  // namespace memtrace
