// SPDX-License-Identifier: Apache-2.0
// Memory in use that no Python object accounts for: extension modules, libraries, ctypes.
#include <fmt/format.h>

#include <algorithm>

#include "explain/causes/causes.h"
#include "explain/causes/figures.h"
#include "explain/explain.h"

namespace memtrace {

void native_live(const Explanation &explanation, std::vector<Finding> &findings) {
    const Census &census = explanation.census;
    Finding finding{.cause = "native_live"};
    int64_t mappings = explanation.layer("anonymous");
    finding.bytes = static_cast<int64_t>(census.native.bytes) + mappings;
    // The sizes with the most bytes.
    std::vector<std::pair<uint64_t, uint64_t>> sizes(census.native_sizes.begin(), census.native_sizes.end());
    std::sort(sizes.begin(), sizes.end(),
              [](const auto &a, const auto &b) { return a.first * a.second > b.first * b.second; });
    nlohmann::ordered_json by_size = nlohmann::ordered_json::array();
    finding.evidence = {fmt::format(
        "{} blocks from malloc, {} of them resident, are in use, and no Python object that was found points to "
        "them.",
        census.native.blocks, in_mib(census.native.bytes))};
    for (const auto &[size, blocks] : sizes) {
        if (by_size.size() == 10)
            break;
        by_size.push_back({{"chunk_bytes", size}, {"blocks", blocks}});
        if (by_size.size() <= 3)
            finding.evidence.push_back(fmt::format("Blocks of {} bytes: {}.", size, blocks));
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
