// SPDX-License-Identifier: Apache-2.0
#include "symbolize/source_files.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

namespace memtrace {
namespace {

class SourceFilesTest : public testing::Test {
  protected:
    SourceFilesTest() {
        char name[] = "/tmp/memtrace_source_XXXXXX";
        folder_ = mkdtemp(name);
    }
    ~SourceFilesTest() override {
        std::filesystem::remove_all(folder_);
    }

    std::string write(const std::string &name, const std::string &text) {
        std::ofstream(folder_ + "/" + name) << text;
        return folder_ + "/" + name;
    }

    std::string folder_;
};

TEST_F(SourceFilesTest, LinesCountFromOne) {
    SourceFiles sources(getpid());
    std::string file = write("a.py", "first\nsecond\n\nlast");
    EXPECT_EQ(sources.line(file, 1), "first");
    EXPECT_EQ(sources.line(file, 3), "");
    EXPECT_EQ(sources.line(file, 4), "last");
    EXPECT_FALSE(sources.line(file, 0));
    EXPECT_FALSE(sources.line(file, 5));
    EXPECT_FALSE(sources.line(folder_ + "/none.py", 1));
    EXPECT_FALSE(sources.line("<string>", 1));
}

TEST_F(SourceFilesTest, RelativeNamesAreRelativeToTheProcess) {
    std::string before = std::filesystem::current_path();
    std::filesystem::current_path(folder_);
    write("here.py", "here\n");
    SourceFiles sources(getpid());
    std::filesystem::current_path(before);
    EXPECT_EQ(sources.line("here.py", 1), "here");
    EXPECT_EQ(sources.line("./here.py", 1), "here");
}

TEST_F(SourceFilesTest, WhatATerminalWouldObeyIsBlanked) {
    SourceFiles sources(getpid());
    EXPECT_EQ(sources.line(write("evil.py", "x = '\x1b[2J'\tz\r\n"), 1), "x = ' [2J'\tz ");
}

TEST_F(SourceFilesTest, OnlyRegularFilesAreOpened) {
    std::string fifo = folder_ + "/fifo.py";
    ASSERT_EQ(mkfifo(fifo.c_str(), 0666), 0);
    SourceFiles sources(getpid());
    EXPECT_FALSE(sources.line(fifo, 1));  // and does not wait for a writer
    EXPECT_FALSE(sources.line("/dev/zero", 1));
    EXPECT_FALSE(sources.line(folder_, 1));
}

TEST_F(SourceFilesTest, AProcessThatIsGoneHasNoFiles) {
    SourceFiles none;
    EXPECT_FALSE(none.line("/etc/passwd", 1));
}

}  // namespace
}  // namespace memtrace
