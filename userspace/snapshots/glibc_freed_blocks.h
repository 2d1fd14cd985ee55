// SPDX-License-Identifier: Apache-2.0
// What free memory of the C heap was, before it was freed. The allocator joins free chunks that touch, but does not wipe
// their headers: until something is written there, the area shows where its blocks began.
//
//     before   | 24,016 | 24,016 | 24,016 | ...      sizes, each in the header of a chunk that was in use
//     after    | 21,614,400 ..... | 24,016 | ...     the first one's is the area's now, the others are as they were
//
// A header is believed when its size leads to another one, and that on to more, or to the area's end. What lies between
// two of these was one block. What a program has written may pass for headers, seldom: then a block seems to be several
// smaller ones.
#pragma once

#include <cstdint>

#include "snapshots/allocator_data.h"

namespace memtrace {

struct FreedBlocks {
    uint64_t blocks = 0;
    uint64_t resident_bytes = 0;
    uint64_t largest_bytes = 0;

    void add(const FreedBlocks &other);
};

// Blocks of at least `least_bytes` in a free area. Takes what it reads from `left_bytes`; of an area that is larger, it
// says nothing.
FreedBlocks find_freed_blocks(const ResidentMemory &memory, const AddressRange &area, uint64_t least_bytes,
                              uint64_t &left_bytes);

}  // namespace memtrace
