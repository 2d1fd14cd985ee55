// SPDX-License-Identifier: Apache-2.0
#include "ledger/imports.h"

#include <gtest/gtest.h>

namespace memtrace {
namespace {

ImportEvent begin(const std::string &module, int64_t rss, uint32_t thread = 1) {
    return {thread, true, false, static_cast<uint64_t>(rss), rss, module};
}

ImportEvent done(const std::string &module, int64_t rss, uint32_t thread = 1, bool found = true) {
    return {thread, false, found, static_cast<uint64_t>(rss), rss, module};
}

TEST(Imports, WhatAModulePulledInIsNotItsOwn) {
    auto imports = build_imports({begin("json", 100), begin("json.decoder", 110), done("json.decoder", 170),
                                  begin("json.encoder", 170), done("json.encoder", 180), done("json", 200)});
    ASSERT_EQ(imports.size(), 1U);
    EXPECT_EQ(imports[0].total_bytes, 100);
    EXPECT_EQ(imports[0].own_bytes, 30);
    EXPECT_TRUE(imports[0].found);
    ASSERT_EQ(imports[0].below.size(), 2U);
    EXPECT_EQ(imports[0].below[0].module, "json.decoder");  // the largest
    EXPECT_EQ(imports[0].below[0].total_ns, 60U);
}

TEST(Imports, ThreadsDoNotMix) {
    auto imports = build_imports({begin("a", 0, 1), begin("b", 10, 2), done("b", 30, 2), done("a", 35, 1)});
    ASSERT_EQ(imports.size(), 2U);
    EXPECT_EQ(imports[0].module, "a");
    EXPECT_TRUE(imports[0].below.empty());
}

TEST(Imports, OneThatNeverEndsIsGivenUpToTheLastEvent) {
    auto imports = build_imports({begin("a", 0), begin("b", 10), done("b", 15)});
    ASSERT_EQ(imports.size(), 1U);
    EXPECT_EQ(imports[0].total_bytes, 15);
    EXPECT_FALSE(imports[0].found);
}

TEST(Imports, OneThatBeganBeforeTheTraceIsLeftOut) {
    auto imports = build_imports({done("a", 5), begin("b", 5), done("b", 9)});
    ASSERT_EQ(imports.size(), 1U);
    EXPECT_EQ(imports[0].module, "b");
}

TEST(Imports, AnExceptionEndsWhatItPassesThrough) {
    auto imports = build_imports({begin("a", 0), begin("broken", 10), done("a", 30)});
    ASSERT_EQ(imports.size(), 1U);
    ASSERT_EQ(imports[0].below.size(), 1U);
    EXPECT_FALSE(imports[0].below[0].found);
}

TEST(Imports, DepthIsBounded) {
    std::vector<ImportEvent> events;
    for (int i = 0; i < 100'000; i++)
        events.push_back(begin("deep", i));
    for (int i = 0; i < 100'000; i++)
        events.push_back(done("deep", 100'000 + i));
    auto imports = build_imports(events);
    ASSERT_EQ(imports.size(), 1U);
    EXPECT_EQ(imports[0].total_bytes, 199'999);
    size_t depth = 0;
    for (const auto *below = &imports; !below->empty(); below = &below->front().below)
        depth++;
    EXPECT_LE(depth, 200U);
}

}  // namespace
}  // namespace memtrace
