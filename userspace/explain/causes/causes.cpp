// SPDX-License-Identifier: Apache-2.0
#include "explain/causes/causes.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/counted.h"
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
        return counted(bytes, "byte");
    return fmt::format("{:.2f} MiB", static_cast<double>(bytes) / (1 << 20));
}

std::string tell_large_blocks(const FreedBlocks &large, const GlibcParameters &parameters) {
    return fmt::format(
        "{} of 128 KiB and more {} freed there, the largest of {}. Such blocks are mappings at first; now only those from "
        "{} on are: {}.",
        counted(large.blocks, "block"), large.blocks == 1 ? "was" : "were", in_mib(large.largest_bytes),
        in_mib(parameters.mmap_threshold),
        parameters.thresholds_move ? "one of that size was freed, which raises this"
                                   : "the program or its environment has set this");
}

Remedy keep_blocks_mapped(const FreedBlocks &large) {
    return {"start it with MALLOC_MMAP_THRESHOLD_=131072, so that blocks of 128 KiB and more stay mappings, which go back "
            "when they are freed",
            static_cast<int64_t>(large.resident_bytes)};
}

}  // namespace memtrace
