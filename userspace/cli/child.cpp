// SPDX-License-Identifier: Apache-2.0
#include "cli/child.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/failure.h"
#include "cli/watch.h"

namespace memtrace {

namespace {

void make_pipe(FileDescriptor &read_end, FileDescriptor &write_end) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0)
        fail("cannot make a pipe: {}", strerror(errno));
    read_end = FileDescriptor(ends[0]);
    write_end = FileDescriptor(ends[1]);
}

// Runs in the child. Nothing but async-signal-safe calls.
[[noreturn]] void wait_and_exec(int gate, int exec_error, char *const *argv) {
    char go;
    ssize_t n;
    do
        n = read(gate, &go, 1);
    while (n < 0 && errno == EINTR);
    if (n != 1)
        _exit(kExitFailure);  // memtrace gave up
    restore_signals();
    prctl(PR_SET_PDEATHSIG, SIGCONT);
    execvp(argv[0], argv);
    int error = errno;
    (void)!write(exec_error, &error, sizeof(error));
    _exit(kExitFailure);
}

}  // namespace

Child::Child(const std::vector<std::string> &argv) : name_(argv.at(0)) {
    std::vector<char *> words;
    for (const std::string &word : argv)
        words.push_back(const_cast<char *>(word.c_str()));
    words.push_back(nullptr);
    FileDescriptor gate_read, error_write;
    make_pipe(gate_read, gate_);
    make_pipe(exec_error_, error_write);
    pid_ = fork();
    if (pid_ < 0)
        fail("cannot start a process: {}", strerror(errno));
    if (pid_ == 0) {
        gate_.reset();
        wait_and_exec(gate_read.get(), error_write.get(), words.data());
    }
}

Child::~Child() {
    if (gate_) {
        gate_.reset();
        int status;
        waitpid(pid_, &status, 0);
    }
}

void Child::release() {
    if (write(gate_.get(), "", 1) != 1)
        fail("cannot start {}: {}", name_, strerror(errno));
    int error = 0;
    ssize_t n;
    do
        n = read(exec_error_.get(), &error, sizeof(error));
    while (n < 0 && errno == EINTR);
    if (n == sizeof(error)) {
        if (error == ENOENT)
            throw Failure(kExitNotFound, fmt::format("there is no command '{}'", name_));
        throw Failure(kExitNotExecutable, fmt::format("'{}' cannot be executed: {}", name_, strerror(error)));
    }
    gate_.reset();
}

void Child::wait_until_stopped() const {
    siginfo_t info{};
    for (int i = 0; i < 1000 && !info.si_pid; i++)
        if (waitid(P_PID, static_cast<id_t>(pid_), &info, WSTOPPED | WNOHANG) != 0 || (!info.si_pid && usleep(1000)))
            return;
}

void Child::resume() const {
    kill(pid_, SIGCONT);
}

bool Child::has_ended(int &wait_status) {
    if (!reaped_ && waitpid(pid_, &wait_status_, WNOHANG) == pid_)
        reaped_ = true;
    wait_status = wait_status_;
    return reaped_;
}

}  // namespace memtrace
