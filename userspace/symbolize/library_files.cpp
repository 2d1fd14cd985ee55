// SPDX-License-Identifier: Apache-2.0
#include "symbolize/library_files.h"

#include <fmt/format.h>

#include <vector>

namespace memtrace {

namespace {

// The process chose the names, and each costs some system calls.
constexpr size_t kMaxFolders = 10'000;
constexpr size_t kMaxDepth = 100;

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
    // Up to a folder that is known or is one; all those below are what it is.
    bool is_one = false;
    std::string at = folder;
    std::vector<std::string> below;
    for (; !at.empty() && !is_one; at = parent(at)) {
        auto known = folders_.find(at);
        if (known != folders_.end()) {
            is_one = known->second;
            break;
        }
        if (folders_.size() + below.size() >= kMaxFolders || below.size() >= kMaxDepth)
            return looks_installed(folder + "/");
        below.push_back(at);
        std::string name = last_part(at);
        is_one = is_standard_library(at) ||
                 ((name == "site-packages" || name == "dist-packages") && is_prefix(parent(parent(parent(at)))));
    }
    for (const std::string &one : below)
        folders_[one] = is_one;
    return is_one;
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
    return !folder.empty() && (holds_python(folder) || last_part(folder) == ".local" ||
                               (last_part(folder) == "local" && holds_python(parent(folder))));
}

bool LibraryFiles::holds_python(const std::string &folder) const {
    if (files_->exists(folder + "/pyvenv.cfg"))
        return true;
    for (const char *library : {"/lib/python", "/lib64/python"})
        for (const char *build : {"", "t"})
            if (is_standard_library(folder + library + version_ + build))
                return true;
    return false;
}

bool LibraryFiles::looks_installed(const std::string &file) const {
    return file.find(fmt::format("/lib/python{}/", version_)) != std::string::npos ||
           file.find("/site-packages/") != std::string::npos || file.find("/dist-packages/") != std::string::npos;
}

}  // namespace memtrace
