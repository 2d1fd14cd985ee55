// SPDX-License-Identifier: Apache-2.0
#include "symbolize/source_files.h"

#include <grp.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
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

TEST_F(SourceFilesTest, LineEndsAreNoPartOfLines) {
    SourceFiles sources(getpid());
    std::string file = write("a.py", "one\r\n\r\nthree");
    EXPECT_EQ(sources.line(file, 1), "one");
    EXPECT_EQ(sources.line(file, 2), "");
    EXPECT_EQ(sources.line(file, 3), "three");
}

TEST_F(SourceFilesTest, ManyLinesAndLongOnes) {
    std::string text;
    for (int i = 1; i <= 1000; i++)
        text += "line " + std::to_string(i) + "\n";
    SourceText many(text + std::string(100000, 'x'));
    for (int i : {1, 2, 63, 64, 65, 128, 999, 1000})
        EXPECT_EQ(many.line(i), "line " + std::to_string(i));
    EXPECT_EQ(many.line(1001), std::string(4096, 'x') + "...");
    EXPECT_FALSE(many.line(1002));
    EXPECT_FALSE(many.line(2000));
    EXPECT_FALSE(SourceText(text).line(1001));
    EXPECT_FALSE(SourceText("").line(1));
}

// A file that its folder, or its own mode, closes to the user that the process is of.
TEST_F(SourceFilesTest, WhatTheProcessMayNotReadIsNotRead) {
    if (geteuid() != 0)
        GTEST_SKIP() << "needs root";
    std::filesystem::create_directory(folder_ + "/closed");
    std::string inside = write("closed/a.py", "inside\n"), own = write("own.py", "own\n"),
                open = write("open.py", "open\n");
    chmod(folder_.c_str(), 0755);
    chmod((folder_ + "/closed").c_str(), 0700);
    chmod(inside.c_str(), 0644);
    chmod(own.c_str(), 0600);
    chmod(open.c_str(), 0644);
    int ready[2];
    ASSERT_EQ(pipe(ready), 0);
    pid_t child = fork();
    if (child == 0) {
        if (setgroups(0, nullptr) || setgid(65534) || setuid(65534) || ::write(ready[1], "x", 1) != 1)
            _exit(1);
        for (;;)
            pause();
    }
    char byte;
    ASSERT_EQ(::read(ready[0], &byte, 1), 1);
    {
        SourceFiles sources(child);
        EXPECT_EQ(sources.line(open, 1), "open");
        EXPECT_FALSE(sources.line(own, 1));
        EXPECT_FALSE(sources.line(inside, 1));
        EXPECT_TRUE(sources.exists(own));
        EXPECT_FALSE(sources.exists(inside));
        ASSERT_EQ(chown(own.c_str(), 65534, 65534), 0);
        EXPECT_FALSE(sources.line(own, 1));  // it is asked for once
        SourceFiles again(child);
        EXPECT_EQ(again.line(own, 1), "own");
    }
    // As ourselves again.
    EXPECT_EQ(SourceFiles(getpid()).line(inside, 1), "inside");
    kill(child, SIGKILL);
    waitpid(child, nullptr, 0);
    close(ready[0]);
    close(ready[1]);
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
