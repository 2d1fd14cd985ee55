// SPDX-License-Identifier: Apache-2.0
// Why memory is resident, and does not go back: each cause in a file of its own, with the bytes that it answers for,
// what a sceptic can check by hand, and what would help. No byte has two causes.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "snapshots/glibc_malloc.h"

namespace memtrace {

struct Explanation;

struct Remedy {
    std::string action;
    // Resident bytes that would go back; null where that cannot be told from here.
    std::optional<int64_t> predicted_bytes;
    std::optional<int64_t> at_most_bytes{};  // where the former is null
};

struct Finding {
    std::string cause{};                  // its name in docs/why_not_returned.md
    int64_t bytes = 0;                    // resident, but for peak_then_returned and returned
    std::string summary{};                // for somebody who never heard of an arena
    std::vector<std::string> evidence{};  // sentences, with the figures and addresses
    std::string figures{};                // the same for programs: a JSON object
    std::vector<Remedy> remedies{};
};

// Each adds what it finds, or nothing.
using Cause = void(const Explanation &, std::vector<Finding> &);
Cause arena_pinned, arena_spare, copy_on_write, file_cache, free_list, gc_uncollected, heap_fragmented, heap_top_pinned,
    huge_pages, lazy_free, live_objects, mmap_threshold_moved, native_live, peak_then_returned, pool_slack, returned,
    shared, thread_arenas, trim_threshold;

// All causes of at least 64 KiB, those with the most bytes first; what was returned, last.
std::vector<Finding> find_causes(const Explanation &explanation);

// What goes back when nothing is left alive in these arenas, of which so much is resident.
int64_t released_with_arenas(const Explanation &explanation, uint64_t arenas, uint64_t resident_bytes);

// "12.34 MiB", and few as "1,234 bytes".
std::string in_mib(uint64_t bytes);

// Of blocks that freeing a large one has brought into the heap: the remedy that lasts, and what it gives.
Remedy keep_blocks_mapped(const FreedBlocks &large);
// And in words, how that is known.
std::string tell_large_blocks(const FreedBlocks &large, const GlibcParameters &parameters);

}  // namespace memtrace
