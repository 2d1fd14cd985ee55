// SPDX-License-Identifier: Apache-2.0
// What is said of few arenas and few objects: numbers, nouns and verbs agree.
#include <gtest/gtest.h>

#include <vector>

#include "explain/causes/causes.h"
#include "explain/explain.h"

namespace memtrace {
namespace {

class ArenaPinnedTest : public testing::Test {
  protected:
    ArenaPinnedTest() {
        explanation_.pymalloc.emplace();
        explanation_.pymalloc->place.arena_bytes = 1 << 20;
        explanation_.census.emplace();
    }

    void pin(uint64_t blocks) {
        std::vector<Arena> &arenas = explanation_.pymalloc->arenas;
        arenas.push_back({.address = 0x7f0000000000 + (arenas.size() << 20),
                          .live_blocks = blocks,
                          .resident_bytes = 1 << 20,
                          .resident_free_bytes = 1 << 19});
        explanation_.census->pins.push_back({arenas.size() - 1, blocks, {{"str", blocks}}, {}});
    }

    Finding find() {
        std::vector<Finding> findings;
        arena_pinned(explanation_, findings);
        EXPECT_EQ(findings.size(), 1u);
        return findings.at(0);
    }

    Explanation explanation_;
};

TEST_F(ArenaPinnedTest, OneObject) {
    pin(1);
    Finding finding = find();
    EXPECT_EQ(
        finding.summary,
        "1 arena for small objects, of 1.00 MiB, is nearly empty, but cannot go back: a few objects still live in it.");
    EXPECT_EQ(finding.evidence.at(0), "1 live object keeps 1 arena, on average 1 in each: 1 of str.");
    EXPECT_EQ(finding.remedies.at(0).action, "drop the one object that keeps this arena");
    EXPECT_EQ(finding.remedies.at(1).action, "drop the 1 object of type str with nothing beside it in 1 arena");
}

TEST_F(ArenaPinnedTest, SeveralObjects) {
    pin(2);
    EXPECT_EQ(find().remedies.at(0).action, "drop all of the 2 objects that keep this arena");
    pin(3);
    EXPECT_EQ(find().remedies.at(0).action, "drop all of the 5 objects that keep these arenas");
    EXPECT_EQ(find().remedies.at(1).action, "drop the 5 objects of type str with nothing beside them in 2 arenas");
}

}  // namespace
}  // namespace memtrace
