// SPDX-License-Identifier: Apache-2.0
#include "process/limited_child.h"

#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/file_descriptor.h"

namespace memtrace {

namespace {

constexpr unsigned kNobody = 65534;

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
    sigset_t none;
    sigemptyset(&none);
    signal(SIGALRM, SIG_DFL);
    sigprocmask(SIG_SETMASK, &none, nullptr);
    alarm(limits.seconds);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    prctl(PR_SET_DUMPABLE, 0);  // nobody may trace it
    limit(RLIMIT_CORE, 0);
#ifndef __SANITIZE_ADDRESS__  // whose shadow memory alone is more
    limit(RLIMIT_DATA, limits.memory_bytes);
#endif
    keep.push_back(output);
    close_all_but(std::move(keep));
    open("/dev/null", O_WRONLY);  // as stderr, the lowest that is free
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
    while (text.size() < limits.answer_bytes) {
        ssize_t n = read(input.get(), buffer, sizeof(buffer));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        text.append(buffer, static_cast<size_t>(n));
    }
    input.reset();
    while (waitpid(child, nullptr, 0) < 0 && errno == EINTR) {
    }
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
