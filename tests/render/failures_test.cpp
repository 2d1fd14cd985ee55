// SPDX-License-Identifier: Apache-2.0
#include "render/failures.h"

#include <gtest/gtest.h>

#include <fstream>
#include <set>
#include <sstream>

#include "collect/tracer.h"

namespace memtrace {
namespace {

std::string read_document(const std::string &name) {
    std::ifstream file(std::string(TESTS_DIR) + "/../docs/" + name);
    std::ostringstream text;
    text << file.rdbuf();
    return text.str();
}

TEST(Failures, AreSentences) {
    EXPECT_EQ(describe_failure("code_unreadable", 2),
              "code_unreadable: 2 code objects were not read whole: file or function is \"?\" there, or lines are not "
              "known.");
    EXPECT_EQ(describe_failure("calls_full", 1),
              "calls_full: 1 system call was not counted: the table of calls was full.");
    EXPECT_EQ(describe_failure("from_the_future", 3), "from_the_future: 3");
}

TEST(Failures, AllThatTheKernelsSideCountsHaveASentence) {
    auto described = described_failures();
    std::set<std::string> names(described.begin(), described.end());
    for (const std::string &name : Tracer::failure_names())
        EXPECT_TRUE(names.contains(name)) << name;
}

TEST(Failures, AreInTheDocuments) {
    for (const char *document : {"how_it_works.md", "report.schema.json"}) {
        std::string text = read_document(document);
        ASSERT_FALSE(text.empty());
        for (const std::string &name : described_failures())
            EXPECT_NE(text.find(name), std::string::npos) << name << " is not in " << document;
    }
}

}  // namespace
}  // namespace memtrace
