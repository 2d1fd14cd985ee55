// SPDX-License-Identifier: Apache-2.0
// A segment of mimalloc's, made by hand.
#pragma once

#include <cstddef>
#include <cstdint>

namespace memtrace::mimalloc_fixture {

constexpr uint64_t kSegment = 32 << 20, kSlice = 64 << 10, kKey = 0x1234567890abcdef;

// As 3.13 without the GIL has them.
struct Row {
    uint32_t slice_count = 0, slice_offset = 0;
    uint16_t flags = 0, capacity = 0, reserved = 0, more_flags = 0;
    uint64_t free = 0;
    uint32_t used = 0, block_size = 0;
    uint64_t local_free = 0, thread_free = 0, heap = 0, next = 0, previous = 0, quiescent[3] = {};
};
struct Segment {
    uint64_t memory[2];
    uint8_t is_pinned, is_committed, is_zero, padding;
    uint32_t memory_kind;
    uint64_t flags, bytes, purge_expire, purge_mask[8], commit_mask[8], abandoned_next, next;
    uint64_t abandoned, abandoned_visits, used, cookie, slices, info_slices, kind, entries, thread;
    Row rows[513];
};
static_assert(sizeof(Row) == 96 && sizeof(Segment) == 49512);
// Of what fill() makes.
constexpr size_t kFilledBytes = offsetof(Segment, rows) + 3 * sizeof(Row);

// A segment of one page of 64-byte blocks, five of them in use, and a free span. The process's key is kKey.
inline void fill(uint64_t start) {
    auto *segment = reinterpret_cast<Segment *>(start);
    *segment = {};
    segment->memory_kind = 3;
    segment->bytes = kSegment;
    segment->commit_mask[0] = 3;
    segment->used = 1;
    segment->cookie = start ^ kKey;
    segment->slices = segment->entries = 512;
    segment->info_slices = 1;
    segment->thread = 1;
    segment->rows[0] = {.slice_count = 1, .block_size = kSlice};
    segment->rows[1] = {.slice_count = 1, .capacity = 10, .reserved = 1020, .used = 5, .block_size = 64};
    segment->rows[2] = {.slice_count = 510};
}

}  // namespace memtrace::mimalloc_fixture
