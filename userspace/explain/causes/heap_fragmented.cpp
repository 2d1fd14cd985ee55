// SPDX-License-Identifier: Apache-2.0
// Free memory between live blocks of the C heap.
#include <fmt/format.h>

#include "base/counted.h"
#include "explain/causes/causes.h"
#include "explain/causes/figures.h"
#include "explain/explain.h"

namespace memtrace {

void heap_fragmented(const Explanation &explanation, std::vector<Finding> &findings) {
    const FreePart &part = explanation.heap.scattered;
    if (!explanation.glibc || !part.resident_bytes)
        return;
    Finding finding{.cause = "heap_fragmented", .bytes = static_cast<int64_t>(part.resident_bytes)};
    finding.summary = "The C heap has free memory between blocks that are in use. It can shrink only at its end.";
    const GlibcArena &main = explanation.glibc->arenas[0];
    uint64_t chunks = main.bins.chunks + main.fast.chunks;
    finding.evidence = {
        fmt::format("{} of {} {} free in the heap, in all. Here count {} of at least a page, the largest of {}.",
                    counted(chunks, "chunk"), in_mib(main.bins.bytes + main.fast.bytes), chunks == 1 ? "is" : "are",
                    counted(part.areas, "area"), in_mib(part.largest_bytes)),
        fmt::format("{} of it are whole pages.", in_mib(part.trimmable_bytes))};
    finding.figures = figures({{"free_chunks", chunks},
                               {"areas", part.areas},
                               {"whole_page_bytes", part.trimmable_bytes},
                               {"largest_bytes", part.largest_bytes}});
    finding.remedies = {{"malloc_trim(0)", static_cast<int64_t>(part.trimmable_bytes)}};
    findings.push_back(std::move(finding));
}

}  // namespace memtrace
