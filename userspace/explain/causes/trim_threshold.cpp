// SPDX-License-Identifier: Apache-2.0
// Free memory at the heap's end goes back only when there is more of it than the trim threshold.
#include <fmt/format.h>

#include <algorithm>

#include "explain/causes/causes.h"
#include "explain/causes/figures.h"
#include "explain/explain.h"

namespace memtrace {

void trim_threshold(const Explanation &explanation, std::vector<Finding> &findings) {
    const FreePart &part = explanation.heap.end;
    if (!part.areas)
        return;
    Finding finding{.cause = "trim_threshold", .bytes = static_cast<int64_t>(part.resident_bytes)};
    uint64_t threshold = explanation.glibc->parameters.trim_threshold;
    bool has_moved = threshold > kDefaultThreshold;
    finding.summary =
        "The end of the C heap is free, and kept for the next blocks: there is not enough of it to give back.";
    finding.evidence = {fmt::format("{} are free at the heap's end, and only more than {} would be given back.",
                                    in_mib(part.largest_bytes), in_mib(threshold))};
    if (has_moved)
        finding.evidence.push_back(
            explanation.glibc->parameters.thresholds_move
                ? fmt::format("That threshold began at {}. Freeing a large block has raised it.", in_mib(kDefaultThreshold))
                : fmt::format("That threshold is {} at first: the program or its environment has set it.",
                              in_mib(kDefaultThreshold)));
    finding.figures =
        figures({{"free_bytes", part.largest_bytes}, {"trim_threshold_bytes", threshold}, {"moved", has_moved}});
    auto bytes = static_cast<int64_t>(part.trimmable_bytes);
    finding.remedies = {{"malloc_trim(0)", bytes}};
    if (has_moved)
        finding.remedies.push_back({"start it with MALLOC_TRIM_THRESHOLD_=131072, so that the end goes back whenever it is free",
                                    std::max<int64_t>(0, bytes - static_cast<int64_t>(2 * kDefaultThreshold))});
    findings.push_back(std::move(finding));
}

}  // namespace memtrace
