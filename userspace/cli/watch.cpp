// SPDX-License-Identifier: Apache-2.0
#include "cli/watch.h"

#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/failure.h"
#include "base/file_descriptor.h"
#include "render/render.h"

namespace memtrace {

namespace {

using Clock = std::chrono::steady_clock;
using namespace std::chrono_literals;

constexpr auto kTick = 200ms;
constexpr auto kSearchTick = 5ms;  // while a new process's interpreter is being looked for
constexpr auto kStatusEvery = 1s;

sigset_t original_mask;
struct sigaction original_sigpipe;

sigset_t watched_signals() {
    sigset_t set;
    sigemptyset(&set);
    for (int number : {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGCHLD})
        sigaddset(&set, number);
    return set;
}

// A line that is longer than the terminal is wide would wrap, and stay when the next one is printed.
void print_status(const std::string &text) {
    winsize terminal{};
    size_t room = text.size();
    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &terminal) == 0 && terminal.ws_col)
        room = terminal.ws_col - 1u;
    std::string line = "\r\x1b[K" + text.substr(0, room);  // to the line's start, and clear it
    (void)!write(STDERR_FILENO, line.data(), line.size());
}

// True when the watch is to end.
bool take_signals(int fd, const WatchPlan &plan) {
    signalfd_siginfo info;
    bool end = false;
    while (read(fd, &info, sizeof(info)) == sizeof(info)) {
        auto number = static_cast<int>(info.ssi_signo);
        if (number != SIGCHLD)
            end |= plan.on_signal({number, info.ssi_code == SI_KERNEL});
    }
    return end;
}

}  // namespace

void block_signals() {
    sigset_t set = watched_signals();
    sigprocmask(SIG_BLOCK, &set, &original_mask);
    struct sigaction ignore {};
    ignore.sa_handler = SIG_IGN;
    sigaction(SIGPIPE, &ignore, &original_sigpipe);
}

void restore_signals() {
    sigaction(SIGPIPE, &original_sigpipe, nullptr);
    sigprocmask(SIG_SETMASK, &original_mask, nullptr);
}

bool is_told_to_end() {
    sigset_t pending;
    sigpending(&pending);
    for (int number : {SIGINT, SIGTERM, SIGHUP, SIGQUIT})
        if (sigismember(&pending, number) == 1)
            return true;
    return false;
}

void watch(Session &session, const WatchPlan &plan) {
    sigset_t set = watched_signals();
    FileDescriptor signals(signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC));
    if (!signals)
        fail("cannot receive signals: {}", strerror(errno));
    auto started = Clock::now();
    auto next_status = started;
    for (;;) {
        session.tick();
        if (plan.is_over())
            break;
        auto now = Clock::now();
        if (plan.duration && now - started >= *plan.duration)
            break;
        if (plan.show_status && now >= next_status) {
            print_status(render_status(session.progress()));
            next_status = now + kStatusEvery;
        }
        auto wait = session.is_searching() ? kSearchTick : kTick;
        if (plan.duration) {
            auto left = std::chrono::duration_cast<std::chrono::milliseconds>(*plan.duration - (now - started)) + 1ms;
            wait = std::min(wait, left);
        }
        pollfd waiting[] = {{signals.get(), POLLIN, 0}, {session.epoll_fd(), POLLIN, 0}};
        poll(waiting, 2, static_cast<int>(wait.count()));
        if (waiting[0].revents && take_signals(signals.get(), plan))
            break;
    }
    if (plan.show_status)
        print_status("");
}

}  // namespace memtrace
