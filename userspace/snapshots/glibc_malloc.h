// SPDX-License-Identifier: Apache-2.0
// The C library's allocator (glibc 2.31 to 2.43, malloc/malloc.c), as it lies in another process's memory. Found
// without symbols: the bins of main_arena are 127 list heads in a row, and its parameters know where the heap begins.
//
//     main_arena ── next ──> arena of a thread ── next ──> ... ──> main_arena
//        │ bins: free chunks, by size            each in heaps of 64 MiB, aligned to their size
//        └ top: what is left of the heap, at its end
//
// Free chunks are read off the heaps themselves, and not off the bins, which a busy process changes all the time. What
// cannot be followed is taken to be in use, and `complete` is false.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "snapshots/allocator_data.h"
#include "snapshots/glibc_freed_blocks.h"

namespace memtrace {

// Part of the C heap. A chunk's size has its header in it, as malloc.c counts.
struct Chunk {
    uint64_t address = 0;
    uint64_t bytes = 0;
};
constexpr uint64_t kChunkAlignment = 16;    // MALLOC_ALIGNMENT
constexpr uint64_t kChunkHeaderBytes = 16;  // CHUNK_HDR_SZ: what its user has lies behind
// M_MMAP_THRESHOLD, M_TRIM_THRESHOLD and M_TOP_PAD as they are at first: 128 KiB, malloc/malloc.c.
constexpr uint64_t kDefaultThreshold = 128 << 10;

struct ChunkSum {
    uint64_t chunks = 0;
    uint64_t bytes = 0;

    void add(const Chunk &chunk) {
        chunks++;
        bytes += chunk.bytes;
    }
};

// Free chunks that touch, as one: what malloc_trim(0) makes of them first.
struct FreeArea {
    Chunk chunk;
    uint64_t resident_bytes = 0;
    uint64_t trimmable_bytes = 0;  // of these, in whole pages that malloc_trim(0) gives back
    // Blocks that would have been mappings of their own, and gone back when they were freed, had the mmap threshold
    // stayed where it begins. None while it is there.
    FreedBlocks large;
};

// How much of an arena is in memory. Bytes; the first three are all of it.
struct GlibcResident {
    uint64_t live = 0;
    uint64_t free = 0;  // chunks in bins, and fast ones
    uint64_t top = 0;
    // What malloc_trim(0) would give back to the kernel, once it has joined free chunks that touch: whole pages within
    // them, and of the main arena's top.
    uint64_t trimmable = 0;
};

struct GlibcArena {
    uint64_t address = 0;
    bool is_main = false;
    uint64_t state_bytes = 0;   // sizeof(struct malloc_state)
    uint64_t system_bytes = 0;  // had from the kernel
    Chunk top;
    ChunkSum bins;            // free chunks, but for these:
    ChunkSum fast;            // freed, and kept as they are for the next of their size (up to 2.42)
    uint64_t torn_bytes = 0;  // could not be followed, and is taken to be in use
    GlibcResident resident;
    std::vector<FreeArea> areas;      // by address, from a page on, without what touches top
    FreeArea free_end;                // top, and what touches it
    std::vector<AddressRange> heaps;  // where its chunks lie, by address; their ends need not be a page's

    // Index in heaps of the one that holds all of this chunk; null when none does.
    std::optional<size_t> heap_of(const Chunk &chunk) const;
    // Where the first chunk of a heap lies.
    uint64_t first_chunk(const AddressRange &heap) const;
};

// struct malloc_par.
struct GlibcParameters {
    uint64_t trim_threshold = 0;   // bytes at the top that are kept
    uint64_t mmap_threshold = 0;   // bytes from which a block is a mapping of its own
    bool thresholds_move = false;  // when such a block is freed
    uint64_t mapped_chunks = 0;    // such blocks now
    uint64_t mapped_bytes = 0;
};

struct GlibcSnapshot {
    GlibcParameters parameters;
    std::vector<GlibcArena> arenas;  // the main one first
    bool complete = true;
    bool all_freed_blocks = true;  // false when more is free than FreeArea::large was looked for in

    // Of all arenas:
    uint64_t trimmable_bytes() const;
    uint64_t torn_bytes() const;
};

// Where a process keeps it.
struct GlibcPlace {
    uint64_t main_arena = 0;
    uint64_t parameters = 0;       // mp_
    size_t layout = 0;             // which of those known
    bool links_are_plain = false;  // those of fast bins: before 2.32, which hides them
};

// `data` is the C library's writable data, and `heap_start` where the mapping [heap] begins. Null when it is no glibc,
// or one that is not known.
std::optional<GlibcPlace> find_glibc_malloc(const ResidentMemory &memory, std::span<const AddressRange> data,
                                            uint64_t heap_start);

// A chunk in use, or kept by a thread for the next of its size (tcache). The bytes are a copy of the beginning of what
// its user has, as far as that is in memory: 48 at least of a larger chunk that is.
struct LiveChunk {
    Chunk chunk;
    std::span<const uint8_t> bytes;
    uint64_t resident_bytes = 0;
    bool in_main_arena = false;
};
using ChunkVisitor = std::function<void(const LiveChunk &)>;

// Calls `visit` with each chunk in use, by address within an arena. `heap` is the mapping [heap].
GlibcSnapshot read_glibc_malloc(const ResidentMemory &memory, const GlibcPlace &place, const AddressRange &heap,
                                const ChunkVisitor &visit);

}  // namespace memtrace
