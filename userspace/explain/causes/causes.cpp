// SPDX-License-Identifier: Apache-2.0
#include "explain/causes/causes.h"

#include <fmt/format.h>

#include <algorithm>

#include "explain/explain.h"

namespace memtrace {

namespace {

constexpr Cause *kCauses[] = {
    arena_pinned,    arena_spare,        copy_on_write, file_cache, free_list,     gc_uncollected,
    heap_fragmented, heap_top_pinned,    huge_pages,    lazy_free,  live_objects,  mmap_threshold_moved,
    native_live,     peak_then_returned, pool_slack,    shared,     thread_arenas, trim_threshold,
};
constexpr int64_t kLeastBytes = 64 << 10;

}  // namespace

std::vector<Finding> find_causes(const Explanation &explanation) {
    std::vector<Finding> findings;
    for (Cause *cause : kCauses)
        cause(explanation, findings);
    std::stable_sort(findings.begin(), findings.end(),
                     [](const Finding &a, const Finding &b) { return a.bytes > b.bytes; });
    returned(explanation, findings);
    std::erase_if(findings, [](const Finding &finding) { return finding.bytes < kLeastBytes; });
    return findings;
}

int64_t released_with_arenas(const Explanation &explanation, uint64_t arenas, uint64_t resident_bytes) {
    // From 3.9 on the interpreter keeps one arena that is wholly free, unless it has one (Objects/obmalloc.c).
    bool keeps_one = explanation.python.version.is_at_least(3, 9) &&
                     std::all_of(explanation.pymalloc->arenas.begin(), explanation.pymalloc->arenas.end(),
                                 [](const Arena &arena) { return arena.live_blocks != 0; });
    return static_cast<int64_t>(keeps_one && arenas ? resident_bytes - resident_bytes / arenas : resident_bytes);
}

std::string in_mib(uint64_t bytes) {
    if (bytes < 64 << 10)
        return fmt::format("{} bytes", bytes);
    return fmt::format("{:.2f} MiB", static_cast<double>(bytes) / (1 << 20));
}

}  // namespace memtrace
