// SPDX-License-Identifier: Apache-2.0
#include "process/regular_file.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <sys/stat.h>

#include <cerrno>

namespace memtrace {

FileDescriptor open_regular_file(const std::string &path) {
    return open_regular_file(FileDescriptor(open(path.c_str(), O_PATH | O_CLOEXEC)));
}

FileDescriptor open_regular_file(const FileDescriptor &found) {
    struct stat status;
    if (!found || fstat(found.get(), &status) != 0)
        return FileDescriptor();
    if (!S_ISREG(status.st_mode)) {
        errno = ENOENT;
        return FileDescriptor();
    }
    return FileDescriptor(open(fmt::format("/proc/self/fd/{}", found.get()).c_str(), O_RDONLY | O_CLOEXEC));
}

}  // namespace memtrace
