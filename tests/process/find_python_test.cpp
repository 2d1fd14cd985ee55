// SPDX-License-Identifier: Apache-2.0
#include "process/find_python.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

namespace memtrace {
namespace {

constexpr const char *kPython = "/usr/bin/python3.11";

class FindPythonOfCommand : public testing::Test {
  protected:
    FindPythonOfCommand() : folder_(std::filesystem::path(testing::TempDir()) / ("find_python_" + std::to_string(getpid()))) {
        std::filesystem::create_directories(folder_);
        setenv("PATH", "/nowhere:/usr/bin", 1);
    }
    ~FindPythonOfCommand() override {
        std::filesystem::remove_all(folder_);
        setenv("PATH", path_.c_str(), 1);
    }
    std::string script(const std::string &text) {
        std::string path = folder_ / "script";
        std::ofstream(path) << text;
        return path;
    }
    static std::string found_for(const std::string &command) {
        auto python = find_python_of_command(command);
        return python ? python->module_path : "none";
    }

    std::filesystem::path folder_;
    std::string path_ = getenv("PATH");
};

TEST_F(FindPythonOfCommand, IsTheExecutableItself) {
    auto python = find_python_of_command(kPython);
    ASSERT_TRUE(python);
    EXPECT_EQ(python->version.minor, 11);
    EXPECT_EQ(python->runtime.state, MT_PYTHON_READY);
    EXPECT_EQ(python->open_path(1), kPython);
    EXPECT_NE(python->runtime.pthread_specific, MT_NO_FIELD);  // of the C library that it will get
}

TEST_F(FindPythonOfCommand, IsLookedUpInPath) {
    EXPECT_EQ(found_for("python3.11"), kPython);
    EXPECT_EQ(found_for("no-such-command"), "none");
}

TEST_F(FindPythonOfCommand, IsTheOneAScriptNames) {
    EXPECT_EQ(found_for(script("#!/usr/bin/python3.11 -B\nprint(1)\n")), kPython);
    EXPECT_EQ(found_for(script("#! /usr/bin/env python3.11\n")), kPython);
    EXPECT_EQ(found_for(script("#!/usr/bin/env -S python3.11 -B\n")), kPython);
}

TEST_F(FindPythonOfCommand, IsNoneWhereNoneIsNamed) {
    EXPECT_EQ(found_for(script("#!/bin/sh\n")), "none");
    EXPECT_EQ(found_for(script("#!")), "none");
    EXPECT_EQ(found_for(script("")), "none");
    EXPECT_EQ(found_for(script("#!" + folder_.string() + "/script\n")), "none");
    EXPECT_EQ(found_for(folder_), "none");
    EXPECT_EQ(found_for("/dev/null"), "none");
}

}  // namespace
}  // namespace memtrace
