// SPDX-License-Identifier: Apache-2.0
#include "ledger/ledger.h"

#include <gtest/gtest.h>

#include "fixtures.h"

namespace memtrace {
namespace {

constexpr int64_t kPage = 4096;
constexpr uint32_t kAccount = 3;

ChargeRow charge(uint64_t stack, mt_owner owner, mt_call call, uint64_t grown, uint64_t returned, uint64_t sequence = 1,
                 int64_t rss_after = 0) {
    mt_charge value{};
    value.grown[MT_ANON] = grown;
    value.returned[MT_ANON] = returned;
    value.events = 1;
    value.last_sequence = sequence;
    value.rss_after = rss_after;
    value.rss_peak = rss_after;
    return {{stack, kAccount, static_cast<mt_u8>(owner), static_cast<mt_u8>(call), 0}, value};
}

CallRow call(uint64_t stack, mt_call_kind kind, uint64_t count) {
    return {{stack, kAccount, MT_OWNER_STACK, static_cast<mt_u8>(kind), 0}, {count, 1 << 20, -5}};
}

// f (code 100) is called by the module (code 200) at its instruction 4, and calls itself at its instruction 3.
class LedgerTest : public testing::Test {
  protected:
    LedgerTest() {
        FakeMemory memory;
        codes_.add_code(code_record(kAccount, 100, "/a.py", "f", 10, one_line_an_instruction(5)), layout_3_11(),
                        memory);
        codes_.add_code(code_record(kAccount, 200, "/a.py", "<module>", 0, one_line_an_instruction(5)), layout_3_11(),
                        memory);
        codes_.add_stack(stack_record(kAccount, 1, {{100, 2}, {200, 4}}));
        codes_.add_stack(stack_record(kAccount, 2, {{100, 2}, {100, 3}, {100, 3}, {200, 4}}));
        data_.account.id = kAccount;
    }

    LineSum line(const std::string &function, int first_line, int number) {
        auto lines = sum_lines(data_, codes_, kPage, nullptr);
        return lines[{"/a.py", function, first_line, number}];
    }

    CodeTable codes_;
    AccountData data_;
};

TEST_F(LedgerTest, LinesAreInclusiveAndRecursionCountsOnce) {
    data_.charges = {charge(1, MT_OWNER_STACK, MT_CALL_NONE, 5, 0), charge(2, MT_OWNER_STACK, MT_CALL_NONE, 7, 2)};
    EXPECT_EQ(line("f", 10, 13).grown, 12 * kPage);
    EXPECT_EQ(line("f", 10, 14).grown, 7 * kPage);  // in two frames of the second stack
    EXPECT_EQ(line("f", 10, 14).returned, 2 * kPage);
    EXPECT_EQ(line("<module>", 0, 5).grown, 12 * kPage);
}

TEST_F(LedgerTest, MemUsageIsThatOfTheLastChange) {
    data_.charges = {charge(1, MT_OWNER_STACK, MT_CALL_NONE, 1, 0, /*sequence=*/9, /*rss_after=*/50),
                     charge(2, MT_OWNER_STACK, MT_CALL_NONE, 1, 0, /*sequence=*/4, /*rss_after=*/80)};
    EXPECT_EQ(line("<module>", 0, 5).rss_after, 50 * kPage);
    EXPECT_EQ(line("<module>", 0, 5).peak, 80 * kPage);
}

TEST_F(LedgerTest, WhatWasNotChargedIsUnexplained) {
    data_.account.start[MT_ANON] = 100;
    data_.account.end[MT_ANON] = 120;
    data_.account.end[MT_FILE] = 3;
    data_.account.end[MT_SWAP] = 77;  // not resident
    data_.charges = {charge(1, MT_OWNER_STACK, MT_CALL_NONE, 30, 12)};
    Balances balances = balance(data_, kPage);
    EXPECT_EQ(balances.anonymous.unexplained(), 2 * kPage);
    EXPECT_EQ(balances.file.unexplained(), 3 * kPage);
    EXPECT_EQ(balances.shared.unexplained(), 0);
    Balance total = balances.total();
    EXPECT_EQ(total.unexplained(), 5 * kPage);
    EXPECT_EQ(total.start + total.grown - total.returned + total.unexplained(), total.end);
}

TEST_F(LedgerTest, ReturnsAreByCallAndInnermostLine) {
    data_.charges = {charge(1, MT_OWNER_STACK, MT_CALL_MUNMAP, 0, 20), charge(2, MT_OWNER_STACK, MT_CALL_MUNMAP, 0, 4),
                     charge(1, MT_OWNER_STACK, MT_CALL_BRK, 0, 6), charge(0, MT_OWNER_RECLAIM, MT_CALL_NONE, 0, 9),
                     charge(1, MT_OWNER_STACK, MT_CALL_NONE, 5, 0)};
    data_.calls = {call(1, MT_KIND_MUNMAP, 2), call(1, MT_KIND_ARENA_MUNMAP, 1), call(1, MT_KIND_BRK_SHRINK, 1),
                   call(2, MT_KIND_MUNMAP, 3)};
    auto returns = sum_returns(data_, codes_, {}, kPage);
    ASSERT_EQ(returns.size(), 3u);
    auto munmap = returns[{"munmap", {"/a.py", "f", 13, ""}}];
    EXPECT_EQ(munmap.bytes, 24 * kPage);
    EXPECT_EQ(munmap.count, 5u);
    EXPECT_EQ((returns[{"brk", {"/a.py", "f", 13, ""}}].count), 1u);
    EXPECT_EQ((returns[{"reclaim", {"", "", 0, "[kernel reclaim]"}}].bytes), 9 * kPage);
}

TEST_F(LedgerTest, EveryByteHasAnOwner) {
    data_.charges = {charge(1, MT_OWNER_STACK, MT_CALL_NONE, 5, 0),
                     charge(99, MT_OWNER_STACK, MT_CALL_NONE, 3, 0),  // a stack that never arrived
                     charge(0, MT_OWNER_FORK, MT_CALL_NONE, 2, 0), charge(0, MT_OWNER_NO_FRAME, MT_CALL_NONE, 1, 1)};
    auto owners = sum_owners(data_, codes_, kPage);
    EXPECT_EQ(owners["python"].grown, 5 * kPage);
    EXPECT_EQ(owners["[line unknown]"].grown, 3 * kPage);
    EXPECT_EQ(owners["[fork]"].grown, 2 * kPage);
    EXPECT_EQ(owners["[no python frame]"].returned, kPage);
    EXPECT_EQ(owners.size(), 4u);
}

TEST_F(LedgerTest, ArenasAndCalls) {
    data_.calls = {call(1, MT_KIND_MMAP, 4), call(1, MT_KIND_ARENA_MMAP, 3), call(2, MT_KIND_ARENA_MMAP, 2),
                   call(1, MT_KIND_ARENA_MUNMAP, 1)};
    auto arenas = sum_arenas(data_, codes_);
    ASSERT_EQ(arenas.size(), 1u);
    EXPECT_EQ(arenas.begin()->second.created, 5u);
    EXPECT_EQ(arenas.begin()->second.released, 1u);
    auto calls = sum_calls(data_, kPage);
    EXPECT_EQ(calls[MT_KIND_MMAP].count, 4u);
    EXPECT_EQ(calls[MT_KIND_MMAP].rss_bytes, -5 * kPage);
}

}  // namespace
}  // namespace memtrace
