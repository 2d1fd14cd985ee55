// SPDX-License-Identifier: Apache-2.0
// Free memory between live blocks of the C heap.
#include <fmt/format.h>

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
    finding.evidence = {
        fmt::format(
            "{} free chunks of {} lie between live ones; {} areas are as large as a page, the largest {} bytes.",
            main.bins.chunks + main.fast.chunks, in_mib(main.bins.bytes + main.fast.bytes), part.areas,
            part.largest_bytes),
        fmt::format("{} of it are whole pages.", in_mib(part.trimmable_bytes))};
    finding.figures = figures({{"free_chunks", main.bins.chunks + main.fast.chunks},
                               {"areas", part.areas},
                               {"whole_page_bytes", part.trimmable_bytes},
                               {"largest_bytes", part.largest_bytes}});
    finding.remedies = {{"malloc_trim(0)", static_cast<int64_t>(part.trimmable_bytes)}};
    findings.push_back(std::move(finding));
}

}  // namespace memtrace
