// SPDX-License-Identifier: Apache-2.0
// Heaps made by hand in our own memory, whole and damaged.
#include "snapshots/glibc_heap_walk.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <random>
#include <utility>
#include <vector>

namespace memtrace {
namespace {

constexpr uint64_t kHeapBytes = 3 << 20;  // more than one piece

class HeapWalkTest : public testing::Test {
  protected:
    HeapWalkTest() : words_(kHeapBytes / sizeof(uint64_t) + 2) {
        auto start = (reinterpret_cast<uint64_t>(words_.data()) + 15) / 16 * 16;
        heap_ = {start, start + kHeapBytes};
        arena_.is_main = true;
        arena_.heaps = {heap_};
        arena_.top = {heap_.end, 0};
    }

    void put(uint64_t at, const ChunkHeader &header) {
        std::memcpy(reinterpret_cast<void *>(at), &header, sizeof(header));
    }

    // Chunks of 32 to 1,056 bytes to the heap's end, of which no two that touch are free. Gives how many, and how many
    // are.
    std::pair<size_t, size_t> fill() {
        std::mt19937 random(1);
        size_t chunks = 0, free = 0;
        ChunkHeader header{0, ChunkHeader::kPreviousInUse};
        for (uint64_t at = heap_.start; at < heap_.end; chunks++) {
            uint64_t bytes = std::min<uint64_t>(32 + random() % 65 * 16, heap_.end - at);
            if (heap_.end - at - bytes < kMinChunk)
                bytes = heap_.end - at;
            bool is_free = header.size & ChunkHeader::kPreviousInUse && random() % 3 == 0 && at + bytes < heap_.end;
            free += is_free;
            header.size = bytes | (header.size & ChunkHeader::kPreviousInUse);
            put(at, header);
            starts_.push_back(at);
            header = {is_free ? bytes : 0, is_free ? 0 : ChunkHeader::kPreviousInUse};
            at += bytes;
        }
        return {chunks, free};
    }

    std::vector<uint64_t> words_;
    AddressRange heap_;
    GlibcArena arena_;
    std::vector<uint64_t> starts_;
    ResidentMemory memory_{getpid()};
};

TEST_F(HeapWalkTest, FindsEveryChunk) {
    auto [chunks, free] = fill();
    HeapWalk walk(memory_, arena_, heap_);
    size_t seen = 0, seen_free = 0;
    while (auto chunk = walk.next()) {
        ASSERT_EQ(chunk->address, starts_[seen]);
        EXPECT_GE(walk.beginning().size(), std::min<uint64_t>(chunk->bytes, 1024) - kChunkHeaderBytes);
        seen++;
        seen_free += walk.is_free();
    }
    EXPECT_EQ(seen, chunks);
    EXPECT_EQ(seen_free, free);
    EXPECT_EQ(walk.torn_bytes(), 0u);
}

TEST_F(HeapWalkTest, GoesOnBehindWhatItCannotFollow) {
    auto [chunks, free] = fill();
    // The header in the middle is no size, so that the next one can only be looked for.
    size_t middle = chunks / 2;
    put(starts_[middle], {0, 24});
    HeapWalk walk(memory_, arena_, heap_);
    size_t seen = 0;
    while (auto chunk = walk.next()) {
        ASSERT_EQ(chunk->address, starts_[seen < middle ? seen : seen + 1]);
        seen++;
    }
    EXPECT_EQ(seen, chunks - 1);
    EXPECT_EQ(walk.torn_bytes(), starts_[middle + 1] - starts_[middle]);
}

TEST_F(HeapWalkTest, EndsAtTop) {
    auto [chunks, free] = fill();
    arena_.top = {starts_[chunks - 3], heap_.end - starts_[chunks - 3]};
    HeapWalk walk(memory_, arena_, heap_);
    size_t seen = 0;
    while (walk.next())
        seen++;
    EXPECT_EQ(seen, chunks - 3);
    EXPECT_EQ(walk.torn_bytes(), 0u);
}

// Chunks of the largest size that is believed, each of which leads to rubbish, and no two of them to the same.
TEST_F(HeapWalkTest, RubbishEnds) {
    std::mt19937_64 random(1);
    for (uint64_t at = heap_.start; at < heap_.end; at += sizeof(uint64_t)) {
        uint64_t word = random() % 4 ? random() : random() % (heap_.end - at) / 16 * 16;
        std::memcpy(reinterpret_cast<void *>(at), &word, sizeof(word));
    }
    HeapWalk walk(memory_, arena_, heap_);
    uint64_t end = heap_.start;
    while (auto chunk = walk.next()) {
        ASSERT_GE(chunk->address, end);
        end = chunk->address + chunk->bytes;
        ASSERT_LE(end, heap_.end);
        walk.is_free();
        walk.beginning();
    }
    EXPECT_LE(walk.torn_bytes(), kHeapBytes);
}

}  // namespace
}  // namespace memtrace
