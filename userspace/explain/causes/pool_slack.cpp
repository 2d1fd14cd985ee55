// SPDX-License-Identifier: Apache-2.0
// Free room between live small objects, in arenas that are well used.
#include <fmt/format.h>

#include "explain/causes/causes.h"
#include "explain/causes/figures.h"
#include "explain/explain.h"

namespace memtrace {

void pool_slack(const Explanation &explanation, std::vector<Finding> &findings) {
    Finding finding{.cause = "pool_slack", .bytes = explanation.layer("mimalloc_free")};
    uint64_t live = 0, count = 0;
    const std::vector<Arena> none, &arenas = explanation.pymalloc ? explanation.pymalloc->arenas : none;
    std::vector<bool> is_pinned(arenas.size(), false);
    for (const ArenaPins &pins : explanation.census.pins)
        is_pinned[pins.arena] = true;
    for (size_t i = 0; i < arenas.size(); i++) {
        const Arena &arena = arenas[i];
        if (is_pinned[i] || !arena.live_blocks)
            continue;
        finding.bytes += static_cast<int64_t>(arena.resident_free_bytes);
        live += arena.live_bytes;
        count++;
    }
    finding.summary = "There is free room between small objects that are in use. New small objects will fill it.";
    finding.evidence = {fmt::format("{} arenas with {} of live objects have {} free.", count, in_mib(live),
                                    in_mib(static_cast<uint64_t>(finding.bytes)))};
    if (explanation.mimalloc)
        finding.evidence.push_back(fmt::format("{} segments of mimalloc have {} free.",
                                               explanation.mimalloc->segments.size(),
                                               in_mib(explanation.mimalloc->resident.free)));
    finding.figures = figures({{"arenas", count}, {"live_bytes", live}});
    finding.remedies = {{"none: an arena goes back when all of its objects are gone", std::nullopt}};
    findings.push_back(std::move(finding));
}

}  // namespace memtrace
