// SPDX-License-Identifier: Apache-2.0
// Free room between live small objects, in arenas that are well used.
#include <fmt/format.h>

#include "base/counted.h"
#include "explain/causes/causes.h"
#include "explain/causes/figures.h"
#include "explain/explain.h"

namespace memtrace {

void pool_slack(const Explanation &explanation, std::vector<Finding> &findings) {
    Finding finding{.cause = "pool_slack", .bytes = explanation.layer("mimalloc_free")};
    uint64_t live = 0, count = 0;
    const std::vector<Arena> none, &arenas = explanation.pymalloc ? explanation.pymalloc->arenas : none;
    std::vector<bool> is_pinned(arenas.size(), false);
    const std::vector<ArenaPins> no_pins;
    for (const ArenaPins &pins : explanation.census ? explanation.census->pins : no_pins)
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
    int64_t in_segments = explanation.layer("mimalloc_free");
    if (count)
        finding.evidence.push_back(fmt::format("{} with {} of live objects {} {} free.", counted(count, "arena"),
                                               in_mib(live), count == 1 ? "has" : "have",
                                               in_mib(static_cast<uint64_t>(finding.bytes - in_segments))));
    if (explanation.mimalloc)
        finding.evidence.push_back(fmt::format("{} free in {} of mimalloc.", in_mib(explanation.mimalloc->resident.free),
                                               counted(explanation.mimalloc->segments.size(), "segment")));
    finding.figures = figures({{"arenas", count}, {"live_bytes", live}});
    finding.remedies = {{"none: an arena goes back when all of its objects are gone", std::nullopt}};
    findings.push_back(std::move(finding));
}

}  // namespace memtrace
