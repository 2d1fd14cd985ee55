// SPDX-License-Identifier: Apache-2.0
// What a report says of the memory that is still there: memtrace explain, of a traced process.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <utility>

#include "collect/session.h"
#include "explain/explain.h"

namespace memtrace {

struct TakenLook {
    Explanation explanation;
    // By the ledger, when tracing ended or when the program had run to its end. What changed between then and the look
    // is not in the explanation.
    int64_t rss_bytes = 0;
    bool at_programs_end = false;
};

// A look, or why there is none.
struct Look {
    std::optional<TakenLook> taken;
    std::string missing;              // in a few words; empty when there is one
    std::optional<uint64_t> held_ns;  // for how long the process was stopped for it; null: it was not
};

// Not thread-safe.
class LastLook {
  public:
    // Without `wanted`, none is taken; none is begun once `longest` has gone by, and none goes on once `is_to_end` says
    // so.
    LastLook(bool wanted, std::chrono::duration<double> longest, std::function<bool()> is_to_end)
        : wanted_(wanted), longest_(longest), is_to_end_(std::move(is_to_end)) {}

    // Of a process that stands still, for its program has run to its end; `let_go` makes it go on.
    void take_early(Session &session, const Ending &ending, const std::function<void()> &let_go);
    // The one that was taken early, or else one of a process that is still there, unless so much time went to others
    // already that the user waits. `session` is finished.
    Look take(Session &session, const mt_account &account, int64_t rss_bytes);

  private:
    Look explain_traced(Session &session, const mt_account &account, int64_t rss_bytes, bool at_programs_end) const;

    bool wanted_;
    std::chrono::duration<double> longest_;
    std::function<bool()> is_to_end_;
    std::map<uint32_t, Look> early_;  // by account
    std::optional<std::chrono::steady_clock::time_point> started_;
};

}  // namespace memtrace
