// SPDX-License-Identifier: Apache-2.0
// Why the free memory of the main C heap is still there, piece by piece: each has one reason, so that nothing is
// counted twice. (The heap of the main thread can only shrink at its end; what is free below has to wait for
// malloc_trim.)
#pragma once

#include <cstdint>
#include <vector>

#include "snapshots/glibc_malloc.h"

namespace memtrace {

struct FreePart {
    uint64_t areas = 0;
    uint64_t resident_bytes = 0;
    uint64_t trimmable_bytes = 0;
    uint64_t largest_bytes = 0;
    FreedBlocks large;  // FreeArea::large

    void add(const FreeArea &area);
};

struct HeapSplit {
    // Free memory below a few live chunks at the heap's end. Were these freed, it would go back: so what is free behind
    // them is part of it.
    FreePart pinned;
    AddressRange tail;  // where those chunks lie; empty when there are none
    uint64_t tail_live_bytes = 0;
    uint64_t released_bytes = 0;  // resident bytes that would go back, were they freed
    FreePart large;      // of areas elsewhere, what was blocks that would be mappings, had the threshold not moved
    FreePart end;        // free at the heap's end, and below the trim threshold
    FreePart scattered;  // everything else
};

HeapSplit split_heap(const GlibcArena &main, const GlibcParameters &parameters);

}  // namespace memtrace
