// SPDX-License-Identifier: Apache-2.0
#include "ledger/owned_ranges.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <string>

namespace memtrace {
namespace {

const auto kPageBytes = static_cast<uint64_t>(getpagesize());
constexpr uint32_t kSomeAccount = 7;
const PageOwner kA{MT_OWNER_STACK, kSomeAccount, 1}, kB{MT_OWNER_STACK, kSomeAccount, 2};

PageRange pages(uint64_t start, uint64_t end) {
    return {start * kPageBytes, end * kPageBytes};
}

class OwnedRangesTest : public testing::Test {
  protected:
    // One letter a page: A, B, or '.' for none.
    std::string drawn(uint64_t start, uint64_t end, uint32_t account = kSomeAccount) const {
        std::string text;
        for (uint64_t page = start; page < end; page++) {
            auto owner = ranges.owner_of(account, page * kPageBytes + 123);
            text += !owner ? '.' : *owner == kA ? 'A' : *owner == kB ? 'B' : '?';
        }
        return text;
    }
    int64_t resident_pages(PageOwner owner, uint32_t account = kSomeAccount) const {
        auto owners = ranges.resident(account);
        return owners.contains(owner) ? owners[owner] / static_cast<int64_t>(kPageBytes) : 0;
    }
    template <typename Record>
    bool add(const Record &record) {
        return ranges.add({reinterpret_cast<const uint8_t *>(&record), sizeof(record)});
    }

    OwnedRanges ranges;
};

TEST_F(OwnedRangesTest, TheNewestToucherOwnsAPage) {
    ranges.claim(kSomeAccount, pages(10, 20), kA);
    ranges.claim(kSomeAccount, pages(12, 14), kB);
    EXPECT_EQ(drawn(9, 21), ".AABBAAAAAA.");
    EXPECT_EQ(resident_pages(kA), 8);
    EXPECT_EQ(resident_pages(kB), 2);
    EXPECT_EQ(ranges.count(kSomeAccount), 3u);
}

TEST_F(OwnedRangesTest, NeighboursOfOneOwnerAreOneRange) {
    for (uint64_t page = 10; page < 1000; page++)
        ranges.claim(kSomeAccount, pages(page, page + 1), kA);
    EXPECT_EQ(ranges.count(kSomeAccount), 1u);
    EXPECT_EQ(resident_pages(kA), 990);
}

TEST_F(OwnedRangesTest, DroppingCutsAndMovingKeepsOwners) {
    ranges.claim(kSomeAccount, pages(10, 16), kA);
    ranges.claim(kSomeAccount, pages(16, 20), kB);
    ranges.drop(kSomeAccount, pages(12, 13));
    EXPECT_EQ(drawn(10, 20), "AA.AAABBBB");
    ranges.claim(kSomeAccount, pages(102, 103), kA);  // was there before: mremap unmaps it
    ranges.move(kSomeAccount, pages(12, 18), 100 * kPageBytes);
    EXPECT_EQ(drawn(10, 20), "AA......BB");
    EXPECT_EQ(drawn(99, 107), "..AAABB.");
}

TEST_F(OwnedRangesTest, MovesThatOverlap) {
    ranges.claim(kSomeAccount, pages(10, 12), kA);
    ranges.claim(kSomeAccount, pages(12, 14), kB);
    ranges.move(kSomeAccount, pages(10, 14), 11 * kPageBytes);
    EXPECT_EQ(drawn(9, 16), "..AABB.");
}

TEST_F(OwnedRangesTest, AWindowOfAFileTakesWhatNobodyHas) {
    ranges.claim(kSomeAccount, pages(4, 6), kB);
    mt_touch_record touch{};
    touch.record = {MT_RECORD_TOUCH, kSomeAccount};
    touch.stack = kA.stack;
    touch.owner = MT_OWNER_STACK;
    touch.first = 0;
    touch.pages = 16;
    touch.touched = 9;
    touch.resident = 11;
    ASSERT_TRUE(add(touch));
    EXPECT_EQ(drawn(0, 16), "AAAABBAAAAAAAAAA");
    EXPECT_EQ(resident_pages(kA), 11);
    // A fault in the window: this page was not among them, so those that are left were.
    ranges.claim(kSomeAccount, pages(0, 1), kB);
    EXPECT_EQ(resident_pages(kA), 11);
    EXPECT_EQ(resident_pages(kB), 3);
}

TEST_F(OwnedRangesTest, AForkedChildInheritsButForFilePages) {
    ranges.claim(kSomeAccount, pages(10, 20), kA);
    ranges.claim(kSomeAccount, pages(30, 34), kB, false);
    ranges.inherit(8, kSomeAccount);
    ranges.claim(8, pages(10, 11), kB);
    EXPECT_EQ(drawn(10, 14, 8), "BAAA");
    EXPECT_EQ(drawn(10, 14), "AAAA");
    EXPECT_EQ(resident_pages(kA, 8), 9);
    EXPECT_EQ(resident_pages(kB, 8), 1);
    EXPECT_EQ(drawn(30, 34, 8), "BBBB");
    ranges.forget(kSomeAccount);
    EXPECT_EQ(ranges.count(kSomeAccount), 0u);
    EXPECT_EQ(drawn(10, 14, 8), "BAAA");
}

TEST_F(OwnedRangesTest, OnlyWhatIsPresentIsResident) {
    ranges.claim(kSomeAccount, pages(10, 20), kA);
    ranges.claim(kSomeAccount, pages(25, 30), kB);
    auto owners = ranges.resident(kSomeAccount, {pages(5, 12), pages(18, 27)});
    EXPECT_EQ(owners.size(), 3u);
    EXPECT_EQ(owners[kA], static_cast<int64_t>(4 * kPageBytes));
    EXPECT_EQ(owners[kB], static_cast<int64_t>(2 * kPageBytes));
    EXPECT_EQ(owners[PageOwner{}], static_cast<int64_t>(10 * kPageBytes));
}

TEST_F(OwnedRangesTest, ThereIsABound) {
    ranges = OwnedRanges(3);
    for (uint64_t page = 0; page < 20; page += 2)
        ranges.claim(kSomeAccount, pages(page, page + 1), kA);
    EXPECT_EQ(ranges.count(kSomeAccount), 3u);
    EXPECT_EQ(ranges.dropped(kSomeAccount), 7u);
    EXPECT_EQ(drawn(0, 8), "A.A.A...");
}

TEST_F(OwnedRangesTest, MalformedRecords) {
    mt_touch_record touch{};
    touch.record = {MT_RECORD_TOUCH, kSomeAccount};
    touch.resident = 2;
    touch.pages = 1;
    EXPECT_FALSE(add(touch));
    EXPECT_FALSE(add(touch.record));
    EXPECT_FALSE(add(mt_record{MT_RECORD_STACK, kSomeAccount}));
}

// The same as a table with an entry a page, whatever happens.
TEST_F(OwnedRangesTest, AgreesWithATableOfPages) {
    constexpr uint64_t kPages = 64;
    std::string table(kPages, '.');
    srand(1);
    auto random = [](uint64_t below) { return static_cast<uint64_t>(rand()) % below; };
    for (int step = 0; step < 20'000; step++) {
        uint64_t start = random(kPages), size = 1 + random(kPages - start), to = random(kPages - size + 1);
        switch (random(4)) {
            case 0:
            case 1: {
                bool a = random(2);
                ranges.claim(kSomeAccount, pages(start, start + size), a ? kA : kB);
                table.replace(start, size, std::string(size, a ? 'A' : 'B'));
                break;
            }
            case 2:
                ranges.drop(kSomeAccount, pages(start, start + size));
                table.replace(start, size, std::string(size, '.'));
                break;
            default: {
                ranges.move(kSomeAccount, pages(start, start + size), to * kPageBytes);
                std::string moved = table.substr(start, size);
                table.replace(start, size, std::string(size, '.'));
                table.replace(to, size, moved);
            }
        }
        ASSERT_EQ(drawn(0, kPages), table) << step;
        ASSERT_EQ(resident_pages(kA), std::count(table.begin(), table.end(), 'A')) << step;
    }
}

}  // namespace
}  // namespace memtrace
