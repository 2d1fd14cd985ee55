// SPDX-License-Identifier: Apache-2.0
#include "process/frozen_process.h"

#include <fmt/core.h>
#include <sys/ptrace.h>
#include <sys/wait.h>

#include <cerrno>
#include <charconv>
#include <cstring>
#include <filesystem>
#include <thread>
#include <vector>

#include "base/failure.h"
#include "process/proc_files.h"

namespace memtrace {

namespace {

constexpr std::chrono::microseconds kPoll{50};

std::vector<int> threads_of(int pid) {
    std::vector<int> tids;
    std::error_code error;
    std::filesystem::directory_iterator at(fmt::format("/proc/{}/task", pid), error), end;
    while (!error && at != end) {
        std::string name = at->path().filename();
        int tid = 0;
        if (std::from_chars(name.data(), name.data() + name.size(), tid).ec == std::errc())
            tids.push_back(tid);
        at.increment(error);
    }
    return tids;
}

// What follows this name in the status of a thread; empty when it has gone.
std::string status_of(int pid, int tid, const std::string &name) {
    std::string text = "\n" + read_whole_file(fmt::format("/proc/{}/task/{}/status", pid, tid)).value_or("");
    size_t at = text.find("\n" + name + ":\t");
    if (at == std::string::npos)
        return "";
    at += name.size() + 3;
    return text.substr(at, text.find('\n', at) - at);
}

// One that has ended may be listed still: its leader is until all others have ended too.
bool has_ended(int pid, int tid) {
    std::string state = status_of(pid, tid, "State");
    return state.empty() || state[0] == 'Z' || state[0] == 'X';
}

std::string in_words(std::chrono::nanoseconds time) {
    return fmt::format("{} ms", std::chrono::duration_cast<std::chrono::milliseconds>(time).count());
}

[[noreturn]] void fail_not_seized(int pid, int tid, int error) {
    std::string tracer = status_of(pid, tid, "TracerPid");
    if (error == EPERM && !tracer.empty() && tracer != "0")
        fail("process {} cannot be paused: process {} (a debugger, or strace) traces it already", pid, tracer);
    fail("process {} cannot be paused: {}", pid, strerror(error));
}

}  // namespace

FrozenProcess::FrozenProcess(int pid, std::chrono::nanoseconds longest) : FrozenProcess(longest) {
    auto deadline = start_ + longest;
    // A thread that is not stopped yet may begin another one.
    for (bool first = true; seize_new_threads(pid); first = false) {
        if (!first && Clock::now() > deadline)
            fail("process {} could not be paused within {}: it begins threads all the time", pid, in_words(longest_));
        wait_for_all(pid, deadline);
    }
}

FrozenProcess::~FrozenProcess() {
    release();
}

bool FrozenProcess::seize_new_threads(int pid) {
    bool any = false;
    for (int tid : threads_of(pid)) {
        if (threads_.contains(tid))
            continue;
        if (ptrace(PTRACE_SEIZE, tid, nullptr, nullptr) != 0) {
            int error = errno;
            if (error != ESRCH && !has_ended(pid, tid))
                fail_not_seized(pid, tid, error);
            continue;
        }
        threads_.emplace(tid, Thread{});
        ptrace(PTRACE_INTERRUPT, tid, nullptr, nullptr);
        any = true;
    }
    return any;
}

void FrozenProcess::wait_for_all(int pid, Clock::time_point deadline) {
    for (auto at = threads_.begin(); at != threads_.end();) {
        auto &[tid, thread] = *at;
        int status = 0;
        int waited = thread.stopped ? tid : waitpid(tid, &status, __WALL | WNOHANG);
        // (A leader that has ended is not told of until all others have.)
        if (waited == 0 && !has_ended(pid, tid)) {
            if (Clock::now() > deadline)
                fail(
                    "process {} could not be paused within {}: its thread {} waits in the kernel, where nothing "
                    "can stop it; it goes on as it was",
                    pid, in_words(longest_), tid);
            std::this_thread::sleep_for(kPoll);
            continue;
        }
        if (waited <= 0 || (!thread.stopped && !WIFSTOPPED(status))) {
            at = threads_.erase(at);  // it has ended
            continue;
        }
        // Stopped by us, or by a signal on its way to it. (A stop's own signal, with the event, is none.)
        if (!thread.stopped && status >> 16 == 0)
            thread.signal = WSTOPSIG(status);
        thread.stopped = true;
        ++at;
    }
}

void FrozenProcess::let_go_when_due() {
    if (threads_.empty() || Clock::now() - start_ < longest_)
        return;
    was_due_ = true;
    release();
}

std::chrono::nanoseconds FrozenProcess::release() {
    if (threads_.empty())
        return held_;
    for (const auto &[tid, thread] : threads_)
        ptrace(PTRACE_DETACH, tid, nullptr, static_cast<long>(thread.signal));
    threads_.clear();
    held_ = Clock::now() - start_;
    return held_;
}

}  // namespace memtrace
