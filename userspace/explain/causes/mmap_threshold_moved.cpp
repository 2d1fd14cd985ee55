// SPDX-License-Identifier: Apache-2.0
// A block above the mmap threshold is a mapping of its own, and goes back when it is freed. But freeing one raises the
// threshold to its size: from then on blocks of that size come from the heap, and stay.
#include <fmt/format.h>

#include "explain/causes/causes.h"
#include "explain/causes/figures.h"
#include "explain/explain.h"

namespace memtrace {

void mmap_threshold_moved(const Explanation &explanation, std::vector<Finding> &findings) {
    const FreePart &part = explanation.heap.large;
    if (!part.areas)
        return;
    Finding finding{.cause = "mmap_threshold_moved", .bytes = static_cast<int64_t>(part.resident_bytes)};
    uint64_t threshold = explanation.glibc->parameters.mmap_threshold;
    finding.summary =
        "Large blocks were freed inside the C heap, and stay there. Once, blocks of their size went back at once: "
        "freeing a large one has changed that.";
    finding.evidence = {
        fmt::format("{} free areas of at least {}, the largest {}, lie between live blocks of the heap.", part.areas,
                    in_mib(kDefaultThreshold), in_mib(part.largest_bytes)),
        fmt::format("The mmap threshold began at {}, and is {} now.", in_mib(kDefaultThreshold), in_mib(threshold))};
    finding.figures = figures({{"areas", part.areas},
                               {"largest_bytes", part.largest_bytes},
                               {"mmap_threshold_bytes", threshold},
                               {"trim_threshold_bytes", explanation.glibc->parameters.trim_threshold}});
    auto bytes = static_cast<int64_t>(part.trimmable_bytes);
    finding.remedies = {{"malloc_trim(0)", bytes},
                        {"start it with MALLOC_MMAP_THRESHOLD_=131072, which keeps the threshold where it is", bytes}};
    findings.push_back(std::move(finding));
}

}  // namespace memtrace
