// SPDX-License-Identifier: Apache-2.0
// The chunks of one heap of the C library's allocator, in the order of their addresses: each begins with its size, so
// the next one lies behind. A heap is copied in large pieces, each within microseconds, so that even a process that
// allocates all the time is seen nearly as it was. Where chunks no longer follow one another, for they changed between
// two pieces or are not in memory, the walk goes on at the next place where they do, and is torn.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "snapshots/glibc_malloc.h"

namespace memtrace {

// What lies before a block (struct malloc_chunk).
struct ChunkHeader {
    static constexpr uint64_t kPreviousInUse = 1, kIsMapped = 2, kNotMainArena = 4;

    uint64_t previous_bytes = 0;  // only if that one is free
    uint64_t size = 0;            // and three flags

    uint64_t bytes() const {
        return size & ~uint64_t{kPreviousInUse | kIsMapped | kNotMainArena};
    }
};
static_assert(sizeof(ChunkHeader) == kChunkHeaderBytes);
constexpr uint64_t kMinChunk = 32;  // MINSIZE

// Not thread-safe. `memory` and `arena` must outlive it.
class HeapWalk {
  public:
    // `heap` is one of the arena's.
    HeapWalk(const ResidentMemory &memory, const GlibcArena &arena, const AddressRange &heap);

    // The next chunk, free or not; null at the heap's end, and at top.
    std::optional<Chunk> next();
    // Of the chunk that next() gave: whether it is free, and no fast one, which malloc takes for one in use.
    bool is_free();
    // The beginning of what its user has, as far as that is in memory: 48 bytes at least of a larger chunk that is.
    // Until the next call of any of these.
    std::span<const uint8_t> beginning();

    // How many bytes of the heap could not be followed.
    uint64_t torn_bytes() const {
        return torn_bytes_;
    }

  private:
    // At most `size` bytes from `address` on: fewer where the heap ends, or what is in memory does.
    std::span<const uint8_t> copy_of(uint64_t address, size_t size);
    // Null where it is not in memory.
    std::optional<ChunkHeader> header_at(uint64_t address);
    // Null where there can be no chunk.
    std::optional<uint64_t> chunk_bytes_at(uint64_t address);
    bool is_end(uint64_t address);
    bool chunks_follow(uint64_t address);
    std::optional<Chunk> resume();

    const ResidentMemory &memory_;
    const GlibcArena &arena_;
    AddressRange heap_;
    const uint64_t page_;
    Chunk chunk_;  // that next() gave
    uint64_t torn_bytes_ = 0;
    int places_left_ = 1 << 20;  // where resume() looks
    uint64_t copies_left_;
    // The piece that was copied last, and which of its pages are in memory.
    uint64_t copy_start_ = 0;
    uint64_t copied_bytes_ = 0;
    std::vector<uint8_t> copy_;
    std::vector<bool> present_;
};

}  // namespace memtrace
