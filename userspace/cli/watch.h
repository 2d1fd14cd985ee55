// SPDX-License-Identifier: Apache-2.0
// The loop that runs while something is traced: ticks, signals, the status line.
#pragma once

#include <chrono>
#include <functional>
#include <optional>

#include "collect/session.h"

namespace memtrace {

// From here on SIGINT, SIGTERM, SIGHUP, SIGQUIT and SIGCHLD are read by watch() and interrupt nothing; SIGPIPE is
// ignored.
void block_signals();
// The mask and dispositions as they were before block_signals(). Async-signal-safe.
void restore_signals();

// Whether one of them but SIGCHLD has come that watch() did not see: who sends it after that wants the report now.
bool is_told_to_end();

struct Signal {
    int number;
    bool from_terminal;  // the terminal sent it to the whole foreground group
};

struct WatchPlan {
    std::optional<std::chrono::duration<double>> duration;
    bool show_status = false;
    // Asked after every tick; true ends the watch.
    std::function<bool()> is_over;
    // Told of every signal but SIGCHLD; true ends the watch.
    std::function<bool(const Signal &)> on_signal;
};

void watch(Session &session, const WatchPlan &plan);

}  // namespace memtrace
