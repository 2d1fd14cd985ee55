// SPDX-License-Identifier: Apache-2.0
// The heap shrinks only at its end: a live chunk there keeps what is free below.
#include <fmt/format.h>

#include "explain/causes/causes.h"
#include "explain/causes/figures.h"
#include "explain/explain.h"

namespace memtrace {

void heap_top_pinned(const Explanation &explanation, std::vector<Finding> &findings) {
    const HeapSplit &heap = explanation.heap;
    if (!heap.pinned.areas)
        return;
    Finding finding{.cause = "heap_top_pinned", .bytes = static_cast<int64_t>(heap.pinned.resident_bytes)};
    finding.summary =
        fmt::format("The C heap can shrink only from its end, where {} are in use: they keep what is free below.",
                    in_mib(heap.tail_live_bytes));
    nlohmann::ordered_json pins = nlohmann::ordered_json::array();
    for (const HeapPin &pin : explanation.heap_pins) {
        pins.push_back({{"address", pin.chunk.address}, {"bytes", pin.chunk.bytes}, {"owner", pin.owner}});
        if (finding.evidence.size() < 4)
            finding.evidence.push_back(fmt::format("Near the heap's end, at {:#x}, lie {}: {}.", pin.chunk.address,
                                                   in_mib(pin.chunk.bytes), pin.owner));
    }
    finding.evidence.push_back(fmt::format("{} are in use from {:#x} to the heap's free end at {:#x}.",
                                           in_mib(heap.tail_live_bytes), heap.tail.start, heap.tail.end));
    const FreedBlocks &large = heap.pinned.large;
    finding.figures = figures({{"live_bytes", heap.tail_live_bytes},
                               {"from", heap.tail.start},
                               {"top", heap.tail.end},
                               {"trim_threshold_bytes", explanation.glibc->parameters.trim_threshold},
                               {"large_blocks", large.blocks},
                               {"large_block_bytes", large.resident_bytes},
                               {"pins", pins}});
    finding.remedies = {{"malloc_trim(0)", static_cast<int64_t>(heap.pinned.trimmable_bytes)}};
    // Once: blocks that are freed later will stay again.
    if (large.resident_bytes >= kDefaultThreshold) {
        finding.evidence.push_back(tell_large_blocks(large, explanation.glibc->parameters));
        finding.remedies.push_back(keep_blocks_mapped(large));
    }
    finding.remedies.push_back({"free what lies at the heap's end", static_cast<int64_t>(heap.released_bytes)});
    findings.push_back(std::move(finding));
}

}  // namespace memtrace
