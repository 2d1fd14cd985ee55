// SPDX-License-Identifier: Apache-2.0
// Threads have heaps of their own in the C library. What is free in one serves the threads that use it, and no others.
#include <fmt/format.h>

#include <algorithm>
#include <functional>

#include "explain/causes/causes.h"
#include "explain/causes/figures.h"
#include "explain/explain.h"

namespace memtrace {

void thread_arenas(const Explanation &explanation, std::vector<Finding> &findings) {
    if (!explanation.glibc || explanation.glibc->arenas.size() < 2)
        return;
    Finding finding{.cause = "thread_arenas"};
    int64_t trimmable = 0;
    std::vector<uint64_t> free;
    nlohmann::ordered_json arenas = nlohmann::ordered_json::array();
    for (const GlibcArena &arena : explanation.glibc->arenas) {
        if (arena.is_main)
            continue;
        uint64_t bytes = arena.resident.free + arena.resident.top;
        finding.bytes += static_cast<int64_t>(bytes);
        trimmable += static_cast<int64_t>(arena.resident.trimmable);
        free.push_back(bytes);
        arenas.push_back({{"address", arena.address}, {"free_bytes", bytes}, {"live_bytes", arena.resident.live}});
    }
    std::sort(free.begin(), free.end(), std::greater());
    finding.summary = fmt::format(
        "{} threads' heaps in the C library hold free memory, which other threads cannot use and which does not go "
        "back.",
        arenas.size());
    finding.evidence = {fmt::format("Beside the main one there are {} heaps with {} free, {} of it in the fullest.",
                                    arenas.size(), in_mib(static_cast<uint64_t>(finding.bytes)), in_mib(free[0]))};
    finding.figures = figures({{"arenas", arenas}});
    // All threads on the main arena and one other, as full of holes as the two emptiest of these are. If threads needed
    // all of it at the same time, shared heaps have the same holes: when they did cannot be seen from here.
    uint64_t two = free[0] + (free.size() > 1 ? free[1] : 0);
    finding.remedies = {{"malloc_trim(0)", trimmable},
                        {"start it with MALLOC_ARENA_MAX=2, so that threads share two heaps: it helps if they need "
                         "their memory one after the other",
                         std::nullopt, finding.bytes - static_cast<int64_t>(two)}};
    findings.push_back(std::move(finding));
}

}  // namespace memtrace
