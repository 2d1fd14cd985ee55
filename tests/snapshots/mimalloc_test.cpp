// SPDX-License-Identifier: Apache-2.0
// The real interpreters' segments are read by mimalloc_root_test.py. Here is one made by hand, in this process, because
// it can be damaged.
#include "snapshots/mimalloc.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <random>

#include "snapshots/mimalloc_fixture.h"

namespace memtrace {

namespace {

using namespace mimalloc_fixture;

class MimallocTest : public testing::Test {
  protected:
    void SetUp() override {
        data_ =
            static_cast<uint64_t *>(mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
        data_[100] = kKey;
        // Room for the segment, wherever the kernel puts it, and one behind it.
        room_ = mmap(nullptr, 3 * kSegment, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        uint64_t start = (reinterpret_cast<uint64_t>(room_) + kSegment - 1) / kSegment * kSegment;
        segment_ = reinterpret_cast<Segment *>(start);
        fill(start);
    }

    void TearDown() override {
        munmap(data_, 4096);
        munmap(room_, 3 * kSegment);
    }

    uint64_t address() const {
        return reinterpret_cast<uint64_t>(segment_);
    }
    uint64_t *block(uint64_t index) const {
        return reinterpret_cast<uint64_t *>(address() + kSlice + 192 + 64 * index);
    }
    Row &page() const {
        return segment_->rows[1];
    }

    std::optional<MimallocSnapshot> read() {
        AddressRange data{reinterpret_cast<uint64_t>(data_), reinterpret_cast<uint64_t>(data_) + 4096};
        AddressRange anonymous{reinterpret_cast<uint64_t>(room_), reinterpret_cast<uint64_t>(room_) + 3 * kSegment};
        return read_mimalloc(memory_, {&data, 1}, {&anonymous, 1});
    }

    uint64_t *data_ = nullptr;
    void *room_ = nullptr;
    Segment *segment_ = nullptr;
    ResidentMemory memory_{getpid()};
};

TEST_F(MimallocTest, CountsBlocksAndPages) {
    *block(0) = 0;
    auto found = read();
    ASSERT_TRUE(found);
    ASSERT_EQ(found->segments.size(), 1u);
    EXPECT_EQ(found->segments[0].address, address());
    EXPECT_EQ(found->segments[0].pages, 1u);
    EXPECT_EQ(found->segments[0].committed_bytes, 2 * kSlice);
    EXPECT_EQ(found->live_blocks(), 5u);
    EXPECT_EQ(found->live_bytes(), 5 * 64u);
    EXPECT_EQ(found->free_block_bytes(), 5 * 64u);
    EXPECT_EQ(found->free_span_bytes(), 510 * kSlice);
    EXPECT_EQ(found->resident.live, 5 * 64u);
    EXPECT_EQ(found->resident.free, 4096 - 5 * 64u);
    EXPECT_EQ(found->resident.headers, (sizeof(Segment) + 4095) / 4096 * 4096);
    EXPECT_EQ(found->torn_segments + found->torn_pages, 0u);
}

TEST_F(MimallocTest, ACookieOfAnotherAllocatorIsNotBelieved) {
    data_[100]++;
    EXPECT_FALSE(read());
}

TEST_F(MimallocTest, BlocksThatOtherThreadsFreedAreNotLive) {
    page().thread_free = reinterpret_cast<uint64_t>(block(3)) | 2;
    *block(3) = reinterpret_cast<uint64_t>(block(1));
    *block(1) = 0;
    // One more waits in the heap: a list of its own, at the same offset in every build of this version.
    std::vector<uint64_t> heap(400);
    heap[2840 / 8] = reinterpret_cast<uint64_t>(block(2));
    *block(2) = 0;
    page().heap = reinterpret_cast<uint64_t>(heap.data());
    EXPECT_EQ(read()->live_blocks(), 2u);
}

TEST_F(MimallocTest, AListThatGoesRoundOrAwayIsTorn) {
    page().thread_free = reinterpret_cast<uint64_t>(block(3));
    *block(3) = reinterpret_cast<uint64_t>(block(3));
    EXPECT_EQ(read()->torn_pages, 1u);
    *block(3) = reinterpret_cast<uint64_t>(data_);
    EXPECT_EQ(read()->torn_pages, 1u);
}

TEST_F(MimallocTest, AThreadThatEndedAndAFreedSegmentAreSeen) {
    segment_->thread = 0;
    EXPECT_EQ(read()->segments[0].state, MimallocSegment::State::kAbandoned);
    segment_->used = 0;
    auto found = read();
    EXPECT_EQ(found->segments[0].state, MimallocSegment::State::kFreed);
    EXPECT_EQ(found->live_blocks(), 0u);
    EXPECT_GT(found->segments[0].resident_bytes, 0u);
}

TEST_F(MimallocTest, WhatLiesInAHugeBlockIsNoSegment) {
    fill(address() + kSegment);
    ASSERT_EQ(read()->segments.size(), 2u);
    segment_->kind = 1;
    segment_->bytes = 2 * kSegment;
    segment_->slices = 1024;
    page() = {.slice_count = 1023, .capacity = 1, .reserved = 1, .used = 1, .block_size = 60 << 20};
    auto found = read();
    ASSERT_EQ(found->segments.size(), 1u);
    EXPECT_EQ(found->live_bytes(), 60u << 20);
    // Freed, and then partly in use again.
    segment_->used = 0;
    segment_->thread = 0;
    found = read();
    ASSERT_EQ(found->segments.size(), 2u);
    EXPECT_EQ(found->segments[0].resident_bytes, found->segments[1].resident_bytes);
}

TEST_F(MimallocTest, DamageIsSurvived) {
    std::mt19937_64 random(1);
    *block(0) = 0;
    Segment good = *segment_;
    const uint64_t values[] = {0, 1, ~0ull, 1ull << 63, 1ull << 32, 4096, address(), address() + kSlice, 65536, 512};
    int found = 0, torn = 0;
    for (int round = 0; round < 3000; round++) {
        for (int change = 0; change < 2; change++) {
            auto *word = reinterpret_cast<uint64_t *>(segment_) + random() % ((264 + 3 * sizeof(Row)) / 8);
            uint64_t value = random() % 2 ? values[random() % std::size(values)] : random();
            if (random() % 2)
                *word = value;
            else
                reinterpret_cast<uint8_t *>(word)[random() % 8] = static_cast<uint8_t>(value);
        }
        if (auto snapshot = read()) {
            found++;
            torn += snapshot->torn_pages + snapshot->torn_segments > 0;
            EXPECT_LE(snapshot->live_blocks(), 65535u);
        }
        *segment_ = good;
    }
    EXPECT_GT(found, 500);
    EXPECT_LT(found, 3000);
    EXPECT_GT(torn, 100);
}

}  // namespace

}  // namespace memtrace
