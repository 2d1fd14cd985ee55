// SPDX-License-Identifier: Apache-2.0
#include "explain/heap_split.h"

#include <algorithm>

namespace memtrace {

namespace {

// What is alive above free memory pins it when it is no more than this share of it.
constexpr uint64_t kPinShare = 16;

// What of an area was large blocks, and the rest.
void add_apart(const FreeArea &area, HeapSplit &split) {
    FreeArea large = area, rest = area;
    large.resident_bytes = std::min(area.resident_bytes, area.large.resident_bytes);
    large.trimmable_bytes = std::min(area.trimmable_bytes, large.resident_bytes);
    rest.resident_bytes -= large.resident_bytes;
    rest.trimmable_bytes -= large.trimmable_bytes;
    rest.large = {};
    if (large.resident_bytes)
        split.large.add(large);
    if (rest.resident_bytes || !large.resident_bytes)
        split.scattered.add(rest);
}

}  // namespace

void FreePart::add(const FreeArea &area) {
    areas++;
    resident_bytes += area.resident_bytes;
    trimmable_bytes += area.trimmable_bytes;
    largest_bytes = std::max(largest_bytes, area.chunk.bytes);
    large.add(area.large);
}

HeapSplit split_heap(const GlibcArena &main, const GlibcParameters &parameters) {
    HeapSplit split;
    uint64_t top = main.free_end.chunk.address, end = top + main.free_end.chunk.bytes;
    // The lowest area that would become part of the heap's free end if little above it were freed.
    size_t pinned_from = main.areas.size();
    uint64_t free = main.free_end.chunk.bytes, resident = main.free_end.resident_bytes;  // from the area up
    for (size_t i = main.areas.size(); i-- > 0;) {
        const FreeArea &area = main.areas[i];
        free += area.chunk.bytes;
        resident += area.resident_bytes;
        uint64_t live = end - area.chunk.address - free;
        if (live > free / kPinShare || area.chunk.bytes < kDefaultThreshold ||
            free + live <= std::max(parameters.trim_threshold, kDefaultThreshold))
            continue;
        pinned_from = i;
        split.tail = {area.chunk.address + area.chunk.bytes, top};
        split.tail_live_bytes = live;
        // systrim() leaves M_TOP_PAD.
        split.released_bytes = resident + live - std::min(resident + live, kDefaultThreshold);
    }
    for (size_t i = 0; i < main.areas.size(); i++) {
        const FreeArea &area = main.areas[i];
        if (i >= pinned_from)
            split.pinned.add(area);
        else
            add_apart(area, split);
    }
    (pinned_from < main.areas.size() ? split.pinned : split.end).add(main.free_end);
    // Free chunks of less than a page are in no area.
    uint64_t all = main.resident.free + main.resident.top;
    uint64_t seen = split.pinned.resident_bytes + split.large.resident_bytes + split.end.resident_bytes +
                    split.scattered.resident_bytes;
    split.scattered.resident_bytes += all - std::min(all, seen);
    return split;
}

}  // namespace memtrace
