// SPDX-License-Identifier: Apache-2.0
// Headers of large blocks, made by hand in a mapping of our own.
#include "snapshots/glibc_mapped_chunks.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <vector>

#include "snapshots/glibc_heap_walk.h"

namespace memtrace {
namespace {

class MappedChunksTest : public testing::Test {
  protected:
    static constexpr uint64_t kPages = 2048;

    MappedChunksTest() {
        start_ = reinterpret_cast<uint64_t>(
            mmap(nullptr, kPages * page_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0));
    }
    ~MappedChunksTest() override {
        munmap(reinterpret_cast<void *>(start_), kPages * page_);
    }

    // A block of `pages` that begins on this page; its user may know.
    void put(uint64_t page, uint64_t pages) {
        ChunkHeader header{0, (pages * page_) | ChunkHeader::kIsMapped};
        std::memcpy(reinterpret_cast<void *>(start_ + page * page_), &header, sizeof(header));
    }

    std::vector<Chunk> find(const std::vector<uint64_t> &blocks, uint64_t wanted) {
        return find_in({{start_, start_ + kPages * page_}}, blocks, wanted);
    }

    std::vector<Chunk> find_in(const std::vector<AddressRange> &ranges, const std::vector<uint64_t> &blocks,
                               uint64_t wanted) {
        GlibcParameters parameters;
        parameters.mmap_threshold = 128 << 10;
        parameters.mapped_chunks = wanted;
        return find_mapped_chunks(ResidentMemory(getpid()), ranges, {}, blocks, parameters).chunks;
    }

    const uint64_t page_ = static_cast<uint64_t>(getpagesize());
    uint64_t start_ = 0;
};

TEST_F(MappedChunksTest, FoundWhereverTheyLie) {
    put(0, 40);
    put(40, 33);
    put(100, 50);
    std::vector<Chunk> found = find({}, 3);
    ASSERT_EQ(found.size(), 3u);
    EXPECT_EQ(found[1].address, start_ + 40 * page_);
    EXPECT_EQ(found[2].bytes, 50 * page_);
}

// Each page says that it begins a block which reaches to the end: 2,048 blocks of 8 GiB together.
TEST_F(MappedChunksTest, NoTwoHaveTheSameMemory) {
    std::vector<uint64_t> blocks;
    for (uint64_t page = kPages; page-- > 0;) {
        put(page, kPages - page);
        blocks.push_back(start_ + page * page_ + kChunkHeaderBytes);
    }
    uint64_t sum = 0, end = 0;
    for (const Chunk &chunk : find(blocks, kPages)) {
        EXPECT_GE(chunk.address, end);
        end = chunk.address + chunk.bytes;
        sum += chunk.bytes;
    }
    EXPECT_LE(sum, kPages * page_);
    EXPECT_GT(sum, 0u);
}

// [vsyscall] lies there: behind it the addresses begin anew.
TEST_F(MappedChunksTest, TheEndOfAllAddresses) {
    EXPECT_TRUE(find_in({{0xffffffffff600000, 0xffffffffff601000}}, {}, 1).empty());
}

}  // namespace
}  // namespace memtrace
