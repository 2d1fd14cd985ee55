// SPDX-License-Identifier: Apache-2.0
// What is said of the garbage collector's share of what was copied after a fork.
#include <gtest/gtest.h>

#include <vector>

#include "explain/causes/causes.h"
#include "explain/explain.h"

namespace memtrace {
namespace {

std::string said_of_the_collector(const Traced &traced) {
    Explanation explanation;
    explanation.traced = traced;
    explanation.traced.copies = {{"app.py:3", 8 << 20}};
    std::vector<Finding> findings;
    copy_on_write(explanation, findings);
    return findings.at(0).evidence.at(1);
}

TEST(CopyOnWriteTest, TheCollectorsShare) {
    Traced traced;
    traced.no_collections = "this build has no probes";
    EXPECT_EQ(said_of_the_collector(traced),
              "How much of it was written by the garbage collector is not known: this build has no probes.");
    traced.copied_in_collections_bytes = 2 << 20;
    EXPECT_EQ(said_of_the_collector(traced), "2.00 MiB of it while the garbage collector ran.");
    traced.copied_in_collections_bytes = 0;
    EXPECT_EQ(said_of_the_collector(traced),
              "None of it while the garbage collector ran: gc.freeze() before the fork would not have helped.");
}

TEST(CopyOnWriteTest, InAForkedChildNotAllIsSeen) {
    Traced traced;
    traced.copied_in_collections_bytes = 0;
    traced.begun_by_fork = true;
    EXPECT_EQ(said_of_the_collector(traced).find("gc.freeze"), std::string::npos);
}

}  // namespace
}  // namespace memtrace
