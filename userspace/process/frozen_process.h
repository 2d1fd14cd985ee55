// SPDX-License-Identifier: Apache-2.0
// A process that stands still, so that what is read of it belongs to one moment.
//
// Its threads are stopped by ptrace (PTRACE_SEIZE and PTRACE_INTERRUPT): unlike SIGSTOP, that is seen neither by its
// parent nor by its shell, leaves a process stopped that was, and is undone by the kernel when memtrace ends, whatever
// ends it. A thread is stopped wherever it was, in the middle of an allocation too.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>

namespace memtrace {

// Not thread-safe: the thread that made it must let it go.
class FrozenProcess {
  public:
    // Holds it for `longest` at most, as far as let_go_when_due() is called often. Throws Failure, with nothing left
    // stopped, when it may not be stopped, is traced by somebody else, or has a thread that the kernel cannot stop in
    // that time.
    FrozenProcess(int pid, std::chrono::nanoseconds longest);
    FrozenProcess(const FrozenProcess &) = delete;
    FrozenProcess &operator=(const FrozenProcess &) = delete;
    ~FrozenProcess();

    // Lets it go once it has been held for as long as it may.
    void let_go_when_due();
    // Lets it go, if it has not been. Returns for how long it was held.
    std::chrono::nanoseconds release();
    // Whether it was due: what was read later belongs to no one moment.
    bool was_due() const {
        return was_due_;
    }

  private:
    struct Thread {
        bool stopped = false;
        int signal = 0;  // that it was about to get, and gets when it is let go
    };
    using Clock = std::chrono::steady_clock;

    explicit FrozenProcess(std::chrono::nanoseconds longest) : longest_(longest) {}
    bool seize_new_threads(int pid);
    void wait_for_all(int pid, Clock::time_point deadline);

    std::map<int, Thread> threads_;  // by tid
    Clock::time_point start_ = Clock::now();
    std::chrono::nanoseconds longest_;
    std::chrono::nanoseconds held_{0};
    bool was_due_ = false;
};

}  // namespace memtrace
