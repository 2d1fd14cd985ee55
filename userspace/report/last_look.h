// SPDX-License-Identifier: Apache-2.0
// What a report says of the memory that is still there: memtrace explain, of a traced process.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>

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

// Not thread-safe.
class LastLook {
  public:
    // Of a process that stands still, for its program has run to its end. Nothing where it cannot be looked into.
    void take_early(Session &session, uint32_t account);
    // The one that was taken early, or else one of a process that is still there, unless so much time went to others
    // already that the user waits. `session` is finished.
    std::optional<TakenLook> take(Session &session, const mt_account &account, int64_t rss_bytes);

  private:
    std::map<uint32_t, TakenLook> early_;  // by account
    std::optional<std::chrono::steady_clock::time_point> started_;
};

}  // namespace memtrace
