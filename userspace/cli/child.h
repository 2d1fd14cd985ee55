// SPDX-License-Identifier: Apache-2.0
// A command that waits before its first instruction until we are ready to trace it.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "base/file_descriptor.h"

namespace memtrace {

class Child {
  public:
    // Forks. If it is stopped when memtrace ends, the kernel lets it go on, unless it has changed its user. The child
    // has the signal mask and dispositions that memtrace was started with. Call before any signal is blocked or ignored
    // by block_signals() (cli/watch.h) has effect on it: it undoes both.
    explicit Child(const std::vector<std::string> &argv);
    Child(const Child &) = delete;
    Child &operator=(const Child &) = delete;
    // A child that was never released ends without having run the command.
    ~Child();

    // Lets it exec, and waits for that. Throws Failure (127, 126) when there is no such command or it cannot be
    // executed.
    void release();
    // Null while it runs, else its wait status.
    bool has_ended(int &wait_status);
    // Waits until it is stopped (SIGSTOP), for a second at most.
    void wait_until_stopped() const;
    void resume() const;
    pid_t pid() const {
        return pid_;
    }

  private:
    std::string name_;
    pid_t pid_ = -1;
    FileDescriptor gate_;
    FileDescriptor exec_error_;
    bool reaped_ = false;
    int wait_status_ = 0;
};

}  // namespace memtrace
