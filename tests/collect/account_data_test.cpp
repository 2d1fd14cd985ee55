// SPDX-License-Identifier: Apache-2.0
#include "collect/account_data.h"

#include <gtest/gtest.h>

namespace memtrace {
namespace {

mt_charge grown(uint64_t pages, uint64_t sequence, int64_t rss) {
    mt_charge charge{};
    charge.grown[MT_ANON] = pages;
    charge.returned[MT_FILE] = 1;
    charge.events = 2;
    charge.last_sequence = sequence;
    charge.rss_after = rss;
    charge.rss_peak = rss + 5;
    return charge;
}

TEST(AccountData, SumsAreWhatIsLeftWithoutPlaces) {
    AccountData data;
    data.charges = {{{7, 1, MT_OWNER_STACK, 0, 0}, grown(10, 4, 100)},
                    {{8, 1, MT_OWNER_STACK, 0, 0}, grown(20, 3, 200)},
                    {{9, 1, MT_OWNER_STACK, MT_CALL_MUNMAP, 0}, grown(5, 9, 50)}};
    data.calls = {{{7, 1, MT_OWNER_STACK, MT_KIND_MMAP, 0}, {1, 4096, 1}},
                  {{8, 1, MT_OWNER_STACK, MT_KIND_MMAP, 0}, {2, 8192, 0}}};
    data.copies = {{{7, 1, MT_OWNER_STACK, MT_WRITE_HEADER, 0}, 3}, {{8, 1, MT_OWNER_STACK, MT_WRITE_HEADER, 0}, 4}};
    data.lines.resize(3);
    data.imports.resize(2);
    data.collections.resize(2);
    drop_places(data);
    ASSERT_EQ(data.charges.size(), 2u);
    const auto &[key, charge] = data.charges[0];
    EXPECT_EQ(key.stack, 0u);
    EXPECT_EQ(key.account, 1u);
    EXPECT_EQ(charge.grown[MT_ANON], 30u);
    EXPECT_EQ(charge.returned[MT_FILE], 2u);
    EXPECT_EQ(charge.events, 4u);
    EXPECT_EQ(charge.last_sequence, 4u);
    EXPECT_EQ(charge.rss_after, 100);
    EXPECT_EQ(charge.rss_peak, 205);
    EXPECT_EQ(data.charges[1].first.call, MT_CALL_MUNMAP);
    ASSERT_EQ(data.calls.size(), 1u);
    EXPECT_EQ(data.calls[0].second.count, 3u);
    EXPECT_EQ(data.calls[0].second.length_bytes, 12288);
    ASSERT_EQ(data.copies.size(), 1u);
    EXPECT_EQ(data.copies[0].second, 7u);
    EXPECT_TRUE(data.lines.empty());
    EXPECT_TRUE(data.imports.empty());
    EXPECT_EQ(data.collections.size(), 2u);
    drop_places(data);
    EXPECT_EQ(data.charges.size(), 2u);
}

}  // namespace
}  // namespace memtrace
