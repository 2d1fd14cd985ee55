// SPDX-License-Identifier: Apache-2.0
// From 3.9 on CPython keeps one arena that is wholly free, so that a program on the edge does not make it anew again
// and again.
#include <fmt/format.h>

#include "explain/causes/causes.h"
#include "explain/causes/figures.h"
#include "explain/explain.h"

namespace memtrace {

void arena_spare(const Explanation &explanation, std::vector<Finding> &findings) {
    if (!explanation.pymalloc)
        return;
    Finding finding{.cause = "arena_spare"};
    nlohmann::ordered_json addresses = nlohmann::ordered_json::array();
    for (const Arena &arena : explanation.pymalloc->arenas) {
        if (arena.live_blocks)
            continue;
        finding.bytes += static_cast<int64_t>(arena.resident_bytes);
        addresses.push_back(arena.address);
    }
    if (addresses.empty())
        return;
    finding.summary = "The interpreter keeps room for the small objects to come, of which nothing is in use.";
    finding.evidence = {fmt::format("Arenas of {} without a live block: {}, the first at {:#x}.",
                                    in_mib(explanation.pymalloc->place.arena_bytes), addresses.size(),
                                    addresses[0].get<uint64_t>())};
    finding.figures = figures({{"arenas", addresses}});
    finding.remedies = {{"none is needed: the next small objects are made there", 0}};
    findings.push_back(std::move(finding));
}

}  // namespace memtrace
