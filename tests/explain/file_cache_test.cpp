// SPDX-License-Identifier: Apache-2.0
// Which mapped files are the program's data, and what becomes of them.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "explain/causes/causes.h"
#include "explain/explain.h"

namespace memtrace {
namespace {

// What it recommends when these are mapped, 2 MiB of each; empty when it does not.
std::string remedy(const std::vector<std::string> &paths) {
    Explanation explanation;
    for (const std::string &path : paths)
        explanation.files.push_back({.path = path, .resident_bytes = 2 << 20});
    explanation.layers.push_back({"file_mappings", static_cast<int64_t>(paths.size()) << 21});
    std::vector<Finding> findings;
    file_cache(explanation, findings);
    return findings.at(0).remedies.size() < 2 ? "" : findings[0].remedies[1].action;
}

TEST(FileCacheTest, LibrariesAreKnownByTheirNames) {
    for (const char *library :
         {"/usr/lib/libc.so.6", "/opt/m.cpython-311-x86_64-linux-gnu.so", "/opt/lib.so (deleted)"})
        EXPECT_EQ(remedy({library}), "") << library;
    for (const char *data : {"/srv/app.solutions/table.bin", "/srv/a.so.d/table.bin", "/srv/table.sorted"})
        EXPECT_NE(remedy({data}), "") << data;
}

TEST(FileCacheTest, WhatIsDeletedIsNotOnDisk) {
    EXPECT_EQ(remedy({"/srv/a"}),
              "close the mapping of /srv/a (mmap.close(), munmap): the file stays on disk as it is");
    EXPECT_EQ(
        remedy({"/srv/a (deleted)"}),
        "close the mapping of /srv/a (deleted) (mmap.close(), munmap): it is deleted, and what is in it is gone then");
    EXPECT_EQ(
        remedy({"/srv/a (deleted)", "/srv/b"}),
        "close the mapping of 2 data files (mmap.close(), munmap): they stay on disk as they are, but for 1 that is "
        "deleted");
}

}  // namespace
}  // namespace memtrace
