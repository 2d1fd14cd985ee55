// SPDX-License-Identifier: Apache-2.0
#include "symbolize/frame_tree.h"

#include <gtest/gtest.h>

namespace memtrace {
namespace {

mt_frame frame(uint64_t code, int instruction) {
    return {code, code + 1, instruction, 0};
}

// Innermost first.
std::vector<int> instructions(const FrameTree &tree, std::optional<FrameTree::Node> node) {
    std::vector<int> found;
    for (; node; node = tree.caller(*node))
        found.push_back(tree.frame(*node).instruction);
    return found;
}

TEST(FrameTree, GivesBackWhatWasAdded) {
    FrameTree tree;
    std::vector<mt_frame> stack = {frame(3, 30), frame(2, 20), frame(1, 10)};
    auto node = tree.add(1, stack);
    ASSERT_TRUE(node);
    EXPECT_EQ(instructions(tree, node), (std::vector<int>{30, 20, 10}));
    EXPECT_EQ(tree.add(1, stack), node);
    EXPECT_EQ(tree.size(), 3u);
    EXPECT_FALSE(tree.add(1, {}));
    EXPECT_EQ(tree.left_out(), 0u);
}

TEST(FrameTree, StacksShareTheirOuterFramesOnly) {
    FrameTree tree;
    std::vector<mt_frame> first = {frame(3, 30), frame(2, 20), frame(1, 10)},
                          second = {frame(3, 31), frame(2, 20), frame(1, 10)},
                          third = {frame(3, 30), frame(2, 21), frame(1, 10)};
    auto a = tree.add(1, first), b = tree.add(1, second), c = tree.add(1, third), other = tree.add(2, first);
    EXPECT_EQ(tree.size(), 3u + 1 + 2 + 3);
    EXPECT_EQ(instructions(tree, b), (std::vector<int>{31, 20, 10}));
    EXPECT_EQ(instructions(tree, c), (std::vector<int>{30, 21, 10}));
    EXPECT_NE(a, other);
    EXPECT_EQ(instructions(tree, other), instructions(tree, a));
}

// 20,000 stacks of a function that calls itself, 512 deep.
TEST(FrameTree, RecursionTakesLittle) {
    FrameTree tree;
    std::vector<mt_frame> stack(512, frame(1, 10));
    for (int i = 0; i < 20'000; i++) {
        stack[0].instruction = i;
        ASSERT_TRUE(tree.add(1, stack));
    }
    EXPECT_LE(tree.size(), 20'000u + 512);
}

TEST(FrameTree, IsBounded) {
    FrameTree tree;
    std::vector<mt_frame> stack(512);
    uint64_t added = 0;
    for (uint64_t i = 0; i < 2000; i++) {
        for (uint64_t depth = 0; depth < stack.size(); depth++)
            stack[depth] = frame(i * 1000 + depth, 1);
        added += tree.add(1, stack).has_value();
    }
    EXPECT_EQ(added, 524288u / 512);
    EXPECT_EQ(tree.left_out(), 2000 - added);
    EXPECT_LE(tree.size(), 524288u);
}

}  // namespace
}  // namespace memtrace
