// SPDX-License-Identifier: Apache-2.0
// A block above the mmap threshold is a mapping of its own, and goes back when it is freed. But freeing one raises the
// threshold to its size: from then on blocks of that size come from the heap, and stay. Small blocks come from the heap
// anyway: what was one when it was freed has another cause.
#include "explain/causes/causes.h"
#include "explain/causes/figures.h"
#include "explain/explain.h"

namespace memtrace {

void mmap_threshold_moved(const Explanation &explanation, std::vector<Finding> &findings) {
    const FreePart &part = explanation.heap.large;
    if (!part.areas)
        return;
    const GlibcParameters &parameters = explanation.glibc->parameters;
    Finding finding{.cause = "mmap_threshold_moved", .bytes = static_cast<int64_t>(part.resident_bytes)};
    finding.summary =
        "Large blocks were freed inside the C heap, and stay there. At first, blocks of their size were mappings of their "
        "own, which go back when they are freed; then the size from which a block is one has risen.";
    finding.evidence = {tell_large_blocks(part.large, parameters)};
    finding.figures = figures({{"areas", part.areas},
                               {"blocks", part.large.blocks},
                               {"largest_bytes", part.large.largest_bytes},
                               {"mmap_threshold_bytes", parameters.mmap_threshold},
                               {"trim_threshold_bytes", parameters.trim_threshold}});
    finding.remedies = {{"malloc_trim(0)", static_cast<int64_t>(part.trimmable_bytes)}, keep_blocks_mapped(part.large)};
    findings.push_back(std::move(finding));
}

}  // namespace memtrace
