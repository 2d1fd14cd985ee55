// SPDX-License-Identifier: Apache-2.0
// mimalloc as CPython bundles it (2.1.2 in 3.13, 2.5.2 in 3.15 and in releases of 3.14), as it lies in another
// process's memory: the allocator of builds without the GIL, and of others under PYTHONMALLOC=mimalloc.
//
//     segment   32 MiB, aligned to that, or larger for a block above 16 MiB, which then has it alone ("huge").
//      │        Of 64 KiB slices: the first has the segment's header with a row for each slice, and
//      ├─ page  one slice or more with blocks of one size, or
//      └─ span  slices that are free.
//
// Nothing names the segments, and no list holds those of threads that have ended. So every address of that alignment in
// private anonymous memory is asked whether it has a header. One is believed when all of this holds: its sizes agree
// with each other and with its kind, its flags and kind of memory are among those that exist, it has no more pages
// than slices, its first slice is the header's own, and its cookie, which is the segment's address mixed with a random
// number of the process, gives that number as it stands in the interpreter's data.
//
// The process may change it all while it is read: what contradicts itself is read again, and at last counted as torn.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "snapshots/allocator_data.h"

namespace memtrace {

// Sizes in bytes.
struct MimallocSegment {
    enum class State {
        kOwned,      // by a thread
        kAbandoned,  // its thread has ended, and blocks are still in use
        kFreed,      // nothing is in use; what is still resident waits to be given back
    };

    uint64_t address = 0;
    uint64_t bytes = 0;
    State state = State::kOwned;
    bool is_huge = false;
    uint64_t committed_bytes = 0;  // as mimalloc has it
    uint64_t resident_bytes = 0;
    uint32_t pages = 0;
    uint64_t live_blocks = 0;
    uint64_t live_bytes = 0;  // in blocks, whole
    uint64_t free_span_bytes = 0;
};

// All pages of one block size.
struct MimallocPages {
    uint64_t block_bytes = 0;
    uint64_t pages = 0;
    uint64_t live_blocks = 0;
    uint64_t capacity_blocks = 0;  // that the pages were divided into so far; the rest of them was never touched
};

// What of the segments is in memory, in bytes; together all of it.
struct MimallocResident {
    uint64_t live = 0;
    uint64_t free = 0;
    uint64_t headers = 0;
};

struct MimallocSnapshot {
    std::vector<MimallocSegment> segments;
    std::vector<MimallocPages> classes;  // by block size
    MimallocResident resident;
    uint64_t torn_segments = 0;  // in none of the figures
    uint64_t torn_pages = 0;     // in none but their segment's resident bytes

    uint64_t live_blocks() const;
    uint64_t live_bytes() const;
    uint64_t free_block_bytes() const;  // in pages, as far as these were divided
    uint64_t free_span_bytes() const;
};

// `data` is the interpreter's writable data, `anonymous` the private memory that no file is mapped to; both page
// aligned. Null when there is no segment.
std::optional<MimallocSnapshot> read_mimalloc(const ResidentMemory &memory, std::span<const AddressRange> data,
                                              std::span<const AddressRange> anonymous);

}  // namespace memtrace
