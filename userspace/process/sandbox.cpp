// SPDX-License-Identifier: Apache-2.0
#include "process/sandbox.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <grp.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <thread>

#include "base/file_descriptor.h"
#include "process/capabilities.h"
#include "process/given_up.h"

namespace memtrace {

namespace {

using namespace std::chrono_literals;

constexpr unsigned kNobody = 65534;
constexpr auto kGrace = 100ms;

void limit(__rlimit_resource resource, rlim_t value) {
    rlimit both{value, value};
    setrlimit(resource, &both);
}

// Beside what it has of ours, for it is a copy.
void limit_memory([[maybe_unused]] size_t bytes) {
#ifndef MEMTRACE_SANITIZED  // whose shadow memory alone is more
    size_t pages[6] = {};   // the last are data
    std::ifstream statm("/proc/self/statm");
    for (size_t &figure : pages)
        statm >> figure;
    limit(RLIMIT_DATA, pages[5] * static_cast<size_t>(getpagesize()) + bytes);
#endif
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

// What is left when there is nothing to open any more. A call that is refused fails with EPERM: libraries try some that
// they can do without.
constexpr int kCalls[] = {
    SYS_read,          SYS_pread64, SYS_write,      SYS_close,        SYS_lseek,     SYS_fstat,   SYS_newfstatat,
    SYS_mmap,          SYS_munmap,  SYS_mremap,     SYS_mprotect,     SYS_brk,       SYS_madvise, SYS_futex,
    SYS_clock_gettime, SYS_exit,    SYS_exit_group, SYS_rt_sigreturn, SYS_getrandom, SYS_getpid,  SYS_gettid,
};
#ifdef MEMTRACE_SANITIZED  // the sanitizers' own
constexpr std::initializer_list<int> kSanitizersCalls = {
    SYS_pipe2,          SYS_fcntl,       SYS_ioctl,     SYS_readlinkat,  SYS_rt_sigaction,
    SYS_rt_sigprocmask, SYS_sigaltstack, SYS_getrusage, SYS_sched_yield, SYS_prctl,
#if defined(__x86_64__)
    SYS_pipe,           SYS_readlink,
#endif
};
#else
constexpr std::initializer_list<int> kSanitizersCalls = {};
#endif
#if defined(__x86_64__)
constexpr uint32_t kArchitecture = AUDIT_ARCH_X86_64;
#else
constexpr uint32_t kArchitecture = AUDIT_ARCH_AARCH64;
#endif

}  // namespace

bool refuse_other_calls(std::initializer_list<int> more) {
    std::vector<int> calls(std::begin(kCalls), std::end(kCalls));
    calls.insert(calls.end(), more);
    calls.insert(calls.end(), kSanitizersCalls);
    std::vector<sock_filter> program = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, arch)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, kArchitecture, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
    };
    for (int call : calls) {
        program.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<uint32_t>(call), 0, 1));
        program.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
    }
    // To be read only. (The flags are the third argument; both machines are little-endian.)
    for (sock_filter step : {
             sock_filter BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_openat, 0, 4),
             sock_filter BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, args[2])),
             sock_filter BPF_STMT(BPF_ALU | BPF_AND | BPF_K, O_ACCMODE | O_CREAT | O_TRUNC),
             sock_filter BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, O_RDONLY, 0, 1),
             sock_filter BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
             sock_filter BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
         })
        program.push_back(step);
    sock_fprog all{static_cast<unsigned short>(program.size()), program.data()};
    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &all) == 0;
}

namespace {

bool give_up_privileges() {
    // Who may not change users, as root in some containers, stays who they are, and has no capability all the same.
    if (setgroups(0, nullptr) == 0 && setresgid(kNobody, kNobody, kNobody) == 0)
        (void)!setresuid(kNobody, kNobody, kNobody);
    bool has_none = keep_capabilities({});
    prctl(PR_SET_DUMPABLE, 0);  // a change of user has set it, and has unset this:
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    return has_none;
}

void end_in(std::chrono::milliseconds time) {
    auto seconds = std::chrono::duration_cast<std::chrono::seconds>(time);
    itimerval timer{};
    timer.it_value.tv_sec = seconds.count();
    timer.it_value.tv_usec = std::chrono::microseconds(time - seconds).count();
    setitimer(ITIMER_REAL, &timer, nullptr);
}

[[noreturn]] void answer_and_exit(const SandboxLimits &limits, int output, const std::function<Work()> &open) {
    become_helper({output});
    sigset_t alarms;
    sigemptyset(&alarms);
    sigaddset(&alarms, SIGALRM);
    signal(SIGALRM, SIG_DFL);
    sigprocmask(SIG_UNBLOCK, &alarms, nullptr);
    end_in(limits.time);
    limit_memory(limits.memory_bytes);
    Work work = open();
    limit(RLIMIT_FSIZE, 0);
    limit(RLIMIT_NPROC, 0);
    if (!work || !give_up_privileges() || !refuse_other_calls({}))
        _exit(1);
    std::string text = work();
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

void allow_open_files(size_t count) {
    rlimit files{};
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = std::min<rlim_t>(std::max<rlim_t>(files.rlim_cur, count), files.rlim_max);
    setrlimit(RLIMIT_NOFILE, &files);
}

bool end_child(pid_t child) {
    kill(child, SIGKILL);
    int status = -1;
    for (auto waited = 0ms; waited < kGrace; waited += 1ms) {
        if (waitpid(child, &status, WNOHANG) != 0)
            return WIFEXITED(status) && WEXITSTATUS(status) == 0;
        std::this_thread::sleep_for(1ms);
    }
    return false;
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
        dup2(nothing, file);
}

namespace {

int start_error = 0;  // errno, of the last child

// Up to the answer's end, or for this long.
std::string read_answer(int input, const SandboxLimits &limits) {
    std::string text;
    char buffer[4096];
    auto deadline = std::chrono::steady_clock::now() + limits.time + kGrace;
    pollfd answered{input, POLLIN, 0};
    while (text.size() < limits.answer_bytes) {
        auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
        int ready = poll(&answered, 1, static_cast<int>(std::max<int64_t>(left.count(), 0)));
        if (ready < 0 && errno == EINTR)
            continue;
        ssize_t n = ready > 0 ? read(input, buffer, sizeof(buffer)) : 0;
        if (n <= 0)
            break;
        text.append(buffer, static_cast<size_t>(n));
    }
    return text;
}

}  // namespace

std::string why_no_sandbox() {
    return start_error
               ? fmt::format("memtrace could not start a process to read its files in: {}", strerror(start_error))
               : "";
}

std::optional<std::string> ask_sandbox(int pid, const SandboxLimits &limits, const std::function<Work()> &open) {
    GivenUp &given_up = GivenUp::instance();
    if (given_up.contains(pid, GivenUp::kFiles))
        return std::nullopt;
    SandboxLimits reduced = limits;
    reduced.time /= 1 << std::min<size_t>(given_up.times(GivenUp::kFiles), 3);
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) {
        start_error = errno;
        return std::nullopt;
    }
    FileDescriptor input(ends[0]), output(ends[1]);
    pid_t child = fork();
    if (child == 0)
        answer_and_exit(reduced, output.get(), open);
    start_error = child < 0 ? errno : 0;
    output.reset();
    if (child < 0)
        return std::nullopt;
    // It is ended by its own timer; what is in the hands of a file system that does not answer is not ended by that.
    std::string text = read_answer(input.get(), reduced);
    if (end_child(child) || text.size() >= reduced.answer_bytes)
        return text;
    given_up.add(pid, GivenUp::kFiles);
    return std::nullopt;
}

}  // namespace memtrace
