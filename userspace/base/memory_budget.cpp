// SPDX-License-Identifier: Apache-2.0
#include "base/memory_budget.h"

#include <unistd.h>

#include <fstream>

namespace memtrace {

namespace {

using namespace std::chrono_literals;

constexpr auto kLookAgain = 10ms;  // in which records take some MiB at most
constexpr double kShares[] = {0.60, 0.60, 0.70, 0.72, 0.75, 0.75, 0.85, 0.85, 0.90};
#ifdef MEMTRACE_SANITIZED  // whose own memory is several times ours
constexpr double kOurs = 0.125;
#else
constexpr double kOurs = 1;
#endif

}  // namespace

MemoryBudget &MemoryBudget::instance() {
    static MemoryBudget budget;
    return budget;
}

double MemoryBudget::used_share() {
    auto now = std::chrono::steady_clock::now();
    if (now - looked_at_ < kLookAgain)
        return share_;
    looked_at_ = now;
    // Pages of files are not ours to give up.
    uint64_t all = 0, resident = 0, shared = 0;
    std::ifstream("/proc/self/statm") >> all >> resident >> shared;
    auto ours = static_cast<double>((resident - shared) * static_cast<uint64_t>(getpagesize()));
    share_ = kOurs * ours / static_cast<double>(limit_);
    return share_;
}

bool MemoryBudget::has_room(Detail detail) {
    return used_share() < kShares[static_cast<int>(detail)];
}

}  // namespace memtrace
