// SPDX-License-Identifier: Apache-2.0
// Free areas made by hand in our own memory: headers as freeing leaves them, and contents that may look like some.
#include "snapshots/glibc_freed_blocks.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>
#include <vector>

#include "snapshots/glibc_heap_walk.h"

namespace memtrace {
namespace {

constexpr uint64_t kLeast = 128 << 10;

class FreedBlocksTest : public testing::Test {
  protected:
    void make(uint64_t bytes) {
        words_.assign(bytes / sizeof(uint64_t) + 2, 0x2020202020202020);  // text
        uint64_t start = (reinterpret_cast<uint64_t>(words_.data()) + 15) / 16 * 16;
        area_ = {start, start + bytes};
        put(0, bytes);
    }

    void put(uint64_t at, uint64_t bytes) {
        ChunkHeader header{0, bytes | ChunkHeader::kPreviousInUse};
        std::memcpy(reinterpret_cast<void *>(area_.start + at), &header, sizeof(header));
    }

    FreedBlocks find() {
        uint64_t left = 1 << 30;
        return find_freed_blocks(memory_, area_, kLeast, left);
    }

    std::vector<uint64_t> words_;
    AddressRange area_;
    ResidentMemory memory_{getpid()};
};

TEST_F(FreedBlocksTest, OneBlockIsAllOfIt) {
    make(3 << 20);
    FreedBlocks found = find();
    EXPECT_EQ(found.blocks, 1u);
    EXPECT_EQ(found.resident_bytes, 3u << 20);
    EXPECT_EQ(found.largest_bytes, 3u << 20);
}

TEST_F(FreedBlocksTest, NoAreaLiesBetweenChunks) {
    make(1 << 20);
    area_.end += 8;  // as the process claims
    EXPECT_EQ(find().blocks, 0u);
    area_ = {area_.start + 8, area_.end};
    EXPECT_EQ(find().blocks, 0u);
}

TEST_F(FreedBlocksTest, SmallBlocksSideBySideAreNone) {
    make(4 << 20);
    for (uint64_t at = 0; at < 4 << 20; at += 32768)
        if (at)
            put(at, 32768);
    EXPECT_EQ(find().blocks, 0u);
}

TEST_F(FreedBlocksTest, NorAreAreasThatWereJoinedBefore) {
    make(4 << 20);
    for (uint64_t at = 32768; at < 4 << 20; at += 32768)
        put(at, at % (1 << 20) ? 32768 : 1 << 20);  // every 32nd was joined with those behind it
    EXPECT_EQ(find().blocks, 0u);
}

TEST_F(FreedBlocksTest, LargeBlocksAmongSmallOnes) {
    make(4 << 20);
    put(1 << 20, 2 << 20);
    for (uint64_t at = 3 << 20; at < 4 << 20; at += 16384)
        put(at, 16384);
    FreedBlocks found = find();
    EXPECT_EQ(found.blocks, 2u);
    EXPECT_EQ(found.resident_bytes, 3u << 20);
    EXPECT_EQ(found.largest_bytes, 2u << 20);
}

TEST_F(FreedBlocksTest, NumbersThatCountUpAreNoHeaders) {
    make(8 << 20);
    auto *words = reinterpret_cast<uint64_t *>(area_.start);
    for (uint64_t i = 2; i < (8 << 20) / sizeof(uint64_t); i++)
        words[i] = i;
    // One of them says how far it is to the end, as a header would.
    FreedBlocks found = find();
    EXPECT_LE(found.blocks, 2u);
    EXPECT_EQ(found.resident_bytes, 8u << 20);
}

TEST_F(FreedBlocksTest, NothingIsSaidOfMoreThanMayBeRead) {
    make(1 << 20);
    uint64_t left = 1 << 19;
    EXPECT_EQ(find_freed_blocks(memory_, area_, kLeast, left).blocks, 0u);
    EXPECT_EQ(left, 0u);
}

}  // namespace
}  // namespace memtrace
