// SPDX-License-Identifier: Apache-2.0
// Memory in use that no Python object accounts for: extension modules, libraries, ctypes.
#include <fmt/format.h>

#include <algorithm>

#include "base/counted.h"
#include "explain/causes/causes.h"
#include "explain/causes/figures.h"
#include "explain/explain.h"

namespace memtrace {

void native_live(const Explanation &explanation, std::vector<Finding> &findings) {
    if (!explanation.census)
        return;
    const Census &census = *explanation.census;
    Finding finding{.cause = "native_live"};
    int64_t mappings =
        std::max<int64_t>(0, explanation.layer("anonymous") - static_cast<int64_t>(census.object_mappings));
    finding.bytes = static_cast<int64_t>(census.native.bytes) + mappings;
    // The sizes with the most bytes.
    std::vector<std::pair<uint64_t, uint64_t>> sizes(census.native_sizes.begin(), census.native_sizes.end());
    std::sort(sizes.begin(), sizes.end(),
              [](const auto &a, const auto &b) { return a.first * a.second > b.first * b.second; });
    nlohmann::ordered_json by_size = nlohmann::ordered_json::array();
    bool is_one = census.native.blocks == 1;
    finding.evidence = {fmt::format(
        "{} of {} from malloc {} in use, and no Python object that was found points to {}.",
        counted(census.native.blocks, "block"), in_mib(census.native.bytes), is_one ? "is" : "are",
        is_one ? "it" : "them")};
    for (const auto &[size, blocks] : sizes) {
        if (by_size.size() == 10)
            break;
        by_size.push_back({{"chunk_bytes", size}, {"blocks", blocks}});
        if (by_size.size() <= 3)
            finding.evidence.push_back(fmt::format("{} of {}{}.", counted(blocks, "block"), counted(size, "byte"),
                                                   blocks == 1 ? "" : " each"));
    }
    if (mappings > 0)
        finding.evidence.push_back(
            fmt::format("Mappings that malloc did not make have {}: thread stacks, mmap, or another allocator.",
                        in_mib(static_cast<uint64_t>(mappings))));
    const auto &allocator = explanation.c_allocator;
    if (allocator && allocator->name != "glibc")
        finding.evidence.push_back(
            fmt::format("malloc is served by {}, {}: what is free in its heap is not known, and counted here.",
                        allocator->name.value_or("another allocator"), allocator->module));
    finding.summary = "Memory is in use that belongs to no Python object: an extension module or a library has it.";
    finding.figures = figures({{"blocks", census.native.blocks},
                               {"block_bytes", census.native.bytes},
                               {"mapping_bytes", mappings},
                               {"sizes", by_size}});
    finding.remedies = {{"look for the native function that made it: sudo memtrace -p PID", std::nullopt}};
    findings.push_back(std::move(finding));
}

}  // namespace memtrace
