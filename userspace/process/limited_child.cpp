// SPDX-License-Identifier: Apache-2.0
#include "process/limited_child.h"

#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <thread>

#include "base/file_descriptor.h"

namespace memtrace {

namespace {

using namespace std::chrono_literals;

constexpr unsigned kNobody = 65534;
constexpr auto kGrace = 100ms;

void limit(__rlimit_resource resource, rlim_t value) {
    rlimit both{value, value};
    setrlimit(resource, &both);
}

void close_all_but(std::vector<int> keep) {
    std::sort(keep.begin(), keep.end());
    unsigned from = STDERR_FILENO;
    for (int file : keep) {
        auto number = static_cast<unsigned>(file);
        if (number > from)
            close_range(from, number - 1, 0);
        from = std::max(from, number + 1);
    }
    close_range(from, ~0u, 0);
}

[[noreturn]] void answer_and_exit(const ChildLimits &limits, std::vector<int> keep, int output,
                                  const std::function<std::string()> &answer) {
    keep.push_back(output);
    become_helper(std::move(keep));
    sigset_t alarms;
    sigemptyset(&alarms);
    sigaddset(&alarms, SIGALRM);
    signal(SIGALRM, SIG_DFL);
    sigprocmask(SIG_UNBLOCK, &alarms, nullptr);
    alarm(limits.seconds);
#ifndef __SANITIZE_ADDRESS__  // whose shadow memory alone is more
    limit(RLIMIT_DATA, limits.memory_bytes);
#endif
    std::string text = answer();
    size_t done = 0;
    while (done < text.size()) {
        ssize_t n = write(output, text.data() + done, text.size() - done);
        if (n <= 0)
            break;
        done += static_cast<size_t>(n);
    }
    _exit(0);
}

}  // namespace

void end_child(pid_t child) {
    kill(child, SIGKILL);
    for (auto waited = 0ms; waited < kGrace && waitpid(child, nullptr, WNOHANG) == 0; waited += 1ms)
        std::this_thread::sleep_for(1ms);
}

void become_helper(std::vector<int> keep) {
    sigset_t all;
    sigfillset(&all);
    for (int fault : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT})
        sigdelset(&all, fault);
    sigprocmask(SIG_SETMASK, &all, nullptr);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    prctl(PR_SET_DUMPABLE, 0);  // nobody may trace it
    limit(RLIMIT_CORE, 0);
    close_all_but(std::move(keep));
    int nothing = open("/dev/null", O_RDWR);
    for (int file : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO})
        if (fcntl(file, F_GETFD) < 0)
            dup2(nothing, file);
}

std::string ask_limited_child(const ChildLimits &limits, const std::vector<int> &keep,
                              const std::function<std::string()> &answer) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0)
        return {};
    FileDescriptor input(ends[0]), output(ends[1]);
    pid_t child = fork();
    if (child == 0)
        answer_and_exit(limits, keep, output.get(), answer);
    output.reset();
    if (child < 0)
        return {};
    std::string text;
    char buffer[4096];
    // It is ended by its own alarm; what is in the hands of a file system that does not answer is not ended by that.
    auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(limits.seconds) + kGrace;
    pollfd answered{input.get(), POLLIN, 0};
    while (text.size() < limits.answer_bytes) {
        auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
        int ready = poll(&answered, 1, static_cast<int>(std::max<int64_t>(left.count(), 0)));
        if (ready < 0 && errno == EINTR)
            continue;
        ssize_t n = ready > 0 ? read(input.get(), buffer, sizeof(buffer)) : 0;
        if (n <= 0)
            break;
        text.append(buffer, static_cast<size_t>(n));
    }
    end_child(child);
    return text;
}

void give_up_privileges() {
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    // Who is not root may not do the first three, and has at most capabilities.
    bool is_nobody = setgroups(0, nullptr) == 0 && setresgid(kNobody, kNobody, kNobody) == 0 &&
                     setresuid(kNobody, kNobody, kNobody) == 0;
    __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
    __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = {};
    if (syscall(SYS_capset, &header, none) != 0 || (!is_nobody && getuid() == 0))
        _exit(1);
    prctl(PR_SET_DUMPABLE, 0);
}

}  // namespace memtrace
