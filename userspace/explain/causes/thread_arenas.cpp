// SPDX-License-Identifier: Apache-2.0
// Threads have heaps of their own in the C library. What is free in one serves the threads that use it, and no others.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>

#include "base/counted.h"
#include "explain/causes/causes.h"
#include "explain/causes/figures.h"
#include "explain/explain.h"

namespace memtrace {

void thread_arenas(const Explanation &explanation, std::vector<Finding> &findings) {
    if (!explanation.glibc || explanation.glibc->arenas.size() < 2)
        return;
    Finding finding{.cause = "thread_arenas"};
    int64_t trimmable = 0;
    uint64_t most = 0, heaps = 0;
    FreedBlocks large;
    nlohmann::ordered_json arenas = nlohmann::ordered_json::array();
    for (const GlibcArena &arena : explanation.glibc->arenas) {
        if (arena.is_main)
            continue;
        uint64_t bytes = arena.resident.free + arena.resident.top;
        finding.bytes += static_cast<int64_t>(bytes);
        trimmable += static_cast<int64_t>(arena.resident.trimmable);
        most = std::max(most, bytes);
        heaps += arena.heaps.size();
        large.add(arena.free_end.large);
        for (const FreeArea &area : arena.areas)
            large.add(area.large);
        arenas.push_back({{"address", arena.address}, {"free_bytes", bytes}, {"live_bytes", arena.resident.live}});
    }
    bool is_one = arenas.size() == 1;
    finding.summary = fmt::format(
        "{} of the C library's, beside the main one, {} for threads. What is free there serves no other threads, and does "
        "not go back.",
        counted(arenas.size(), "heap"), is_one ? "is" : "are");
    finding.evidence = {fmt::format("{} are free there{}.", in_mib(static_cast<uint64_t>(finding.bytes)),
                                    is_one ? "" : fmt::format(", {} of it in the emptiest heap", in_mib(most)))};
    finding.figures = figures({{"arenas", arenas}});
    finding.remedies = {{"malloc_trim(0)", trimmable}};
    if (large.resident_bytes >= kDefaultThreshold) {
        finding.evidence.push_back(tell_large_blocks(large, explanation.glibc->parameters));
        finding.remedies.push_back(keep_blocks_mapped(large));
    }
    // If threads need their memory one after the other, all of it may go, and the pages that begin each heap. If they
    // need it at the same time, shared heaps have the same holes: when they did cannot be seen from here.
    auto page = static_cast<uint64_t>(getpagesize());
    finding.remedies.push_back({"start it with MALLOC_ARENA_MAX=2, so that threads share two heaps: it helps if they need "
                                "their memory one after the other",
                                std::nullopt, finding.bytes + static_cast<int64_t>(heaps * page)});
    findings.push_back(std::move(finding));
}

}  // namespace memtrace
