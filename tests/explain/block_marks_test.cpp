// SPDX-License-Identifier: Apache-2.0
#include "explain/block_marks.h"

#include <gtest/gtest.h>

namespace memtrace {
namespace {

constexpr uint64_t kArena = 1 << 20, kFirst = 0x7f0000000000, kSecond = kFirst + 2 * kArena;

TEST(BlockMarks, AreOfTheirBlock) {
    BlockMarks marks({kFirst, kSecond}, kArena);
    auto part = marks.from(kSecond + 4096);
    part.set_object(64, true);
    part.set_buffer(128);
    EXPECT_TRUE(marks.from(kSecond + 4096 + 64).is_object(0));
    EXPECT_TRUE(marks.from(kSecond).is_buffer(4096 + 128));
    EXPECT_FALSE(part.is_buffer(64));
    EXPECT_FALSE(part.is_object(128));
    EXPECT_FALSE(marks.from(kFirst + 4096).is_object(64));
    part.set_object(64, false);
    EXPECT_FALSE(part.is_object(64));
}

// A pool that begins in an arena that is known, and ends behind it.
TEST(BlockMarks, EndWithTheirArena) {
    BlockMarks marks({kFirst, kSecond}, kArena);
    auto part = marks.from(kFirst + kArena - 4096);
    for (uint64_t offset = 0; offset < 16384; offset += 32) {
        part.set_object(offset, true);
        part.set_buffer(offset);
        EXPECT_EQ(part.is_object(offset), offset < 4096);
        EXPECT_EQ(part.is_buffer(offset), offset < 4096);
    }
    part.set_object(~uint64_t{0}, true);
    EXPECT_FALSE(part.is_object(~uint64_t{0}));
    EXPECT_FALSE(marks.from(kSecond).is_object(0));
}

TEST(BlockMarks, OfWhatLiesInNoArenaThereAreNone) {
    BlockMarks marks({kFirst, kSecond}, kArena);
    for (uint64_t address : {uint64_t{0}, kFirst - 1, kFirst + kArena, kSecond + kArena, ~uint64_t{0}}) {
        auto part = marks.from(address);
        part.set_object(0, true);
        part.set_buffer(0);
        EXPECT_FALSE(part.is_object(0) || part.is_buffer(0)) << address;
        EXPECT_FALSE(marks.is_in_arena(address)) << address;
    }
    EXPECT_TRUE(marks.is_in_arena(kFirst));
    EXPECT_TRUE(marks.is_in_arena(kSecond + kArena - 1));
    EXPECT_FALSE(BlockMarks({}, 0).is_in_arena(kFirst));
}

}  // namespace
}  // namespace memtrace
