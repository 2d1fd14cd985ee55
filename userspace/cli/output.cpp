// SPDX-License-Identifier: Apache-2.0
#include "cli/output.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/failure.h"

namespace memtrace {

namespace {
bool was_closed[3] = {};
}

void guard_standard_streams() {
    for (int fd = 0; fd < 3; fd++) {
        if (fcntl(fd, F_GETFD) >= 0)
            continue;
        was_closed[fd] = true;
        // The lowest free number is this one. It closes on exec: a command that we run finds it closed, as it was.
        (void)!open("/dev/null", O_RDWR | O_CLOEXEC);
    }
}

Output::Output(const std::string &path, int standard_stream) : name_(path), fd_(standard_stream) {
    if (path.empty()) {
        name_ = standard_stream == STDOUT_FILENO ? "standard output" : "standard error";
        return;
    }
    file_ = FileDescriptor(open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0666));
    if (!file_)
        fail("cannot write the report to {}: {}", path, strerror(errno));
    fd_ = file_.get();
}

void Output::write(const std::string &text) {
    if (fd_ < 3 && was_closed[fd_])
        fail("cannot write the report: {} is closed; use -o FILE", name_);
    struct stat status;
    if (file_ && fstat(fd_, &status) == 0 && S_ISREG(status.st_mode) && ftruncate(fd_, 0) != 0)
        fail("cannot write the report to {}: {}", name_, strerror(errno));
    size_t done = 0;
    while (done < text.size()) {
        ssize_t n = ::write(fd_, text.data() + done, text.size() - done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            fail("cannot write the report to {}: {} ({} of {} bytes were written)", name_, strerror(errno), done,
                 text.size());
        done += static_cast<size_t>(n);
    }
}

}  // namespace memtrace
