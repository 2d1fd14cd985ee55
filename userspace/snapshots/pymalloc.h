// SPDX-License-Identifier: Apache-2.0
// CPython's allocator of small objects (Objects/obmalloc.c), as it lies in another process's memory. Found without
// symbols, because distributions strip them and link-time optimization loses them:
//
//     usedpools   32 pairs of pointers (64 where blocks are aligned to 8 bytes). The pair of an empty class points 16
//      │          bytes before itself, a used one to the first and last pool of its class, which point back there.
//      └─ pool    4 KiB, or 16 KiB from 3.10 on: a header and blocks of one size. It has the number of its arena.
//      arenas ─┘  from 3.12 on right behind usedpools; before, the one array in which the pools' arenas are theirs.
//
// Nothing is believed that a second place does not confirm. The process may change it all while it is read: a pool
// whose parts contradict each other is read again, and at last counted as torn.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "snapshots/allocator_data.h"

namespace memtrace {

// Where a process keeps its small objects. Sizes in bytes.
struct PymallocPlace {
    uint64_t used_pools = 0;
    uint64_t arenas = 0;  // array of struct arena_object
    uint32_t arena_slots = 0;
    uint32_t arena_bytes = 0;
    uint32_t pool_bytes = 0;
    uint32_t alignment = 0;  // of blocks, and the step between size classes

    uint32_t classes() const {
        return 512 / alignment;  // SMALL_REQUEST_THRESHOLD
    }
};

// All pools of one block size.
struct SizeClass {
    uint32_t block_bytes = 0;
    uint64_t pools = 0;
    uint64_t live_blocks = 0;
    uint64_t free_blocks = 0;
};

struct Arena {
    uint64_t address = 0;
    uint32_t pools = 0;       // that fit
    uint32_t used_pools = 0;  // with a live block
    uint64_t live_blocks = 0;
    uint64_t live_bytes = 0;  // in blocks, whole
    uint64_t resident_bytes = 0;
    uint64_t resident_free_bytes = 0;  // of them: in no live block, and no pool's header
};

// What of the arenas is in memory, in bytes; together all of it.
struct PymallocResident {
    uint64_t live = 0;
    uint64_t free_blocks = 0;  // in pools with a live block, and what is too small for one
    uint64_t free_pools = 0;
    uint64_t headers = 0;
};

struct PymallocSnapshot {
    PymallocPlace place;
    std::vector<SizeClass> classes;
    std::vector<Arena> arenas;
    PymallocResident resident;
    uint64_t torn_pools = 0;    // contradicted themselves each time they were read: in none of the figures
    uint64_t absent_pools = 0;  // swapped out, and left there: in none of the figures

    uint64_t used_pools() const;
    uint64_t free_pools() const;  // freed ones and those never used
    // As sys._debugmallocstats() has them. Bytes.
    uint64_t live_bytes() const;
    uint64_t free_block_bytes() const;
    uint64_t pool_header_bytes() const;
    uint64_t quantization_bytes() const;  // at the ends of pools, too small for a block
};

// Looks through the interpreter's writable data, page aligned. Null when there is none in use: another allocator, or an
// unknown one.
std::optional<PymallocPlace> find_pymalloc(const ResidentMemory &memory, std::span<const AddressRange> data);

// Brings a place that was found before up to date: the table of arenas grows, and moves. False where it has gone. Takes
// much less than to find it.
bool update_pymalloc(const ResidentMemory &memory, std::span<const AddressRange> data, PymallocPlace &place);

// Where its arenas begin, sorted.
std::vector<uint64_t> arena_addresses(const ResidentMemory &memory, const PymallocPlace &place);

// The size of the block at this address in an arena, as its pool says. Null when that cannot be.
std::optional<uint32_t> block_bytes_at(const RemoteMemory &memory, const PymallocPlace &place, uint64_t address);

// A pool with a live block. The bytes are a copy, without the end that is not in memory.
struct UsedPoolCopy {
    uint64_t address = 0;
    size_t arena = 0;  // index in PymallocSnapshot::arenas, of one that is still being read
    uint32_t block_bytes = 0;
    std::span<const uint8_t> bytes;
    std::span<const uint32_t> live;  // offsets of live blocks
};
using PoolVisitor = std::function<void(const UsedPoolCopy &)>;

// Reads all arenas; only pages that are in memory. Calls `visit`, unless it is empty, with each pool in use.
PymallocSnapshot read_pymalloc(const ResidentMemory &memory, const PymallocPlace &place, const PoolVisitor &visit = {});

}  // namespace memtrace
