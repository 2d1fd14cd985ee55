// SPDX-License-Identifier: Apache-2.0
#include "cli/output.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <utility>

#include "base/failure.h"
#include "base/printable.h"
#include "process/capabilities.h"

namespace memtrace {

namespace {

constexpr int kNames = 100;  // of files that may be there already

bool was_closed[3] = {};

// Ours, or root's, who needs no link to harm us.
bool is_trusted(const struct stat &status) {
    return status.st_uid == 0 || status.st_uid == geteuid();
}

}  // namespace

void guard_standard_streams() {
    for (int fd = 0; fd < 3; fd++) {
        if (fcntl(fd, F_GETFD) >= 0)
            continue;
        was_closed[fd] = true;
        // The lowest free number is this one. It closes on exec: a command that we run finds it closed, as it was.
        (void)!open("/dev/null", O_RDWR | O_CLOEXEC);
    }
}

Output::Output(const std::string &path, int standard_stream, Readers readers) : name_(path), fd_(standard_stream) {
    if (path.empty()) {
        name_ = standard_stream == STDOUT_FILENO ? "standard output" : "standard error";
        return;
    }
    struct stat status;
    bool exists = lstat(path.c_str(), &status) == 0;
    if (exists && S_ISLNK(status.st_mode) && !is_trusted(status))
        fail("cannot write the report to {}: it is a symbolic link of another user's (uid {}), which may lead anywhere",
             path, status.st_uid);
    exists = exists && stat(path.c_str(), &status) == 0;
    if (exists && S_ISFIFO(status.st_mode) && !is_trusted(status))
        fail("cannot write the report to {}: it is a pipe of another user's (uid {}), who would read it", path,
             status.st_uid);
    if (!exists || S_ISREG(status.st_mode))
        open_beside(path, readers);
    else
        file_ = FileDescriptor(open(path.c_str(), O_WRONLY | O_CLOEXEC));
    if (!file_)
        fail("cannot write the report to {}: {}", path, strerror(errno));
    fd_ = file_.get();
}

Output::~Output() {
    if (!beside_.empty())
        unlink(beside_.c_str());
}

void Output::open_beside(const std::string &path, Readers readers) {
    std::error_code error;
    std::filesystem::path place = std::filesystem::weakly_canonical(path, error);  // where a link of ours leads
    if (error)
        place = path;
    std::filesystem::path folder = place.has_parent_path() ? place.parent_path() : ".";
    std::string beside = (folder / fmt::format(".{}.XXXXXX", place.filename().string())).string();
    // Without a name it is gone whenever we are.
    file_ = FileDescriptor(open(folder.c_str(), O_TMPFILE | O_WRONLY | O_CLOEXEC, 0600));
    if (!file_ && errno == EOPNOTSUPP && (file_ = FileDescriptor(mkostemp(beside.data(), O_CLOEXEC))))
        beside_ = beside;
    if (!file_ && (errno == EACCES || errno == EROFS)) {
        // A folder that is closed to us, with a file in it that is not.
        file_ = FileDescriptor(open(place.c_str(), O_WRONLY | O_NOFOLLOW | O_CLOEXEC));
        return;
    }
    if (!file_)
        return;
    place_ = place.string();
    mode_t mask = umask(0);
    umask(mask);
    if (readers == Readers::kAll)
        fchmod(file_.get(), 0666 & ~mask);
}

bool Output::take_place() {
    std::string unnamed = fmt::format("/proc/self/fd/{}", fd_);
    for (int i = 0; beside_.empty() && i < kNames; i++) {
        std::string name = fmt::format("{}.{:06}", place_, (getpid() + i) % 1000000);
        if (linkat(AT_FDCWD, unnamed.c_str(), AT_FDCWD, name.c_str(), AT_SYMLINK_FOLLOW) == 0)
            beside_ = name;
        else if (errno != EEXIST)
            return false;
    }
    if (beside_.empty() || rename(beside_.c_str(), place_.c_str()) != 0)
        return false;
    beside_.clear();
    return true;
}

void Output::begin() {
    if (fd_ < 3 && was_closed[fd_])
        fail("cannot write the report: {} is closed; use -o FILE", name_);
    struct stat status;
    if (file_ && fstat(fd_, &status) == 0 && S_ISREG(status.st_mode) && ftruncate(fd_, 0) != 0)
        fail("cannot write the report to {}: {}", name_, strerror(errno));
}

void Output::append(std::string_view text) {
    if (!std::exchange(begun_, true))
        begin();
    std::string shown = printable_lines(text);
    for (size_t done = 0; done < shown.size();) {
        ssize_t n = ::write(fd_, shown.data() + done, shown.size() - done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            fail("cannot write the report to {}: {} (after {} bytes)", name_, strerror(errno), written_);
        done += static_cast<size_t>(n);
        written_ += static_cast<size_t>(n);
    }
}

void Output::finish() {
    RaisedCapabilities to_write_where_root_may;
    if (!place_.empty() && !take_place())
        fail("cannot write the report to {}: {}", name_, strerror(errno));
}

}  // namespace memtrace
