// SPDX-License-Identifier: Apache-2.0
#include "symbolize/library_files.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

namespace memtrace {
namespace {

// A file system of its own, with a Python 3.11 where a test puts one.
class LibraryFilesTest : public testing::Test {
  protected:
    LibraryFilesTest() {
        char name[] = "/tmp/memtrace_library_XXXXXX";
        folder_ = mkdtemp(name);
    }
    ~LibraryFilesTest() override {
        std::filesystem::remove_all(folder_);
    }

    void write(const std::string &name) {
        std::filesystem::create_directories(std::filesystem::path(folder_ + name).parent_path());
        std::ofstream(folder_ + name) << "\n";
    }
    void install_python(const std::string &library) {
        for (const char *landmark : {"/os.py", "/site.py", "/encodings/__init__.py"})
            write(library + landmark);
    }
    bool is_library(const std::string &name) {
        return libraries_.has(folder_ + name);
    }

    std::string folder_;
    SourceFiles files_{getpid()};
    LibraryFiles libraries_{&files_, {3, 11, 2}};
};

TEST_F(LibraryFilesTest, FoldersThatOnlyHaveALibrarysName) {
    for (const char *program : {"/lib/python/app.py", "/lib/python3.11/app.py", "/lib/python3.11/site-packages/app.py",
                                "/site-packages/app.py", "/dist-packages/app.py", "/lib/python3/dist-packages/app.py"})
        EXPECT_FALSE(is_library(program)) << program;
}

TEST_F(LibraryFilesTest, TheStandardLibraryAndWhatIsInstalledBesideIt) {
    install_python("/usr/lib/python3.11");
    for (const char *library : {"/usr/lib/python3.11/json/tool.py", "/usr/lib/python3.11/site-packages/numpy/core.py",
                                "/usr/lib/python3/dist-packages/yaml.py", "/usr/lib64/python3.11/site-packages/a.py",
                                "/usr/local/lib/python3.11/dist-packages/a.py"})
        EXPECT_TRUE(is_library(library)) << library;
    for (const char *program : {"/usr/lib/app.py", "/usr/share/app/app.py", "/usr/lib/python3.12/app.py"})
        EXPECT_FALSE(is_library(program)) << program;
}

TEST_F(LibraryFilesTest, AStandardLibraryWithoutSources) {
    for (const char *landmark : {"/os.pyc", "/site.pyc", "/encodings/__init__.pyc"})
        write(std::string("/opt/runtime") + landmark);
    EXPECT_TRUE(is_library("/opt/runtime/copy.pyc"));
}

TEST_F(LibraryFilesTest, VirtualEnvironmentsAndUsersPackages) {
    write("/app/venv/pyvenv.cfg");
    EXPECT_TRUE(is_library("/app/venv/lib/python3.11/site-packages/flask/app.py"));
    EXPECT_FALSE(is_library("/app/venv/app.py"));
    EXPECT_FALSE(is_library("/app/app.py"));
    EXPECT_TRUE(is_library("/home/me/.local/lib/python3.11/site-packages/numpy/core.py"));
}

// As a hostile program may name its code.
TEST_F(LibraryFilesTest, DeepFolders) {
    std::string deep, locals;
    for (int i = 0; i < 100'000; i++) {
        deep += "/a";
        locals += "/local";
    }
    EXPECT_FALSE(is_library(deep + "/lib.py"));
    EXPECT_FALSE(is_library(locals + "/site/app.py"));
    install_python("/usr/lib/python3.11");
    EXPECT_TRUE(is_library("/usr/lib/python3.11/a/b/c/d/e/f/g.py"));
    EXPECT_TRUE(is_library("/usr/lib/python3.11/a/b/other.py"));
}

TEST_F(LibraryFilesTest, NamesInBrackets) {
    EXPECT_TRUE(libraries_.has("<frozen importlib._bootstrap>"));
    EXPECT_FALSE(libraries_.has("?"));
    EXPECT_FALSE(libraries_.has("app.py"));
}

TEST_F(LibraryFilesTest, NamesHaveToDoWhereNothingCanBeAsked) {
    LibraryFiles unknown(nullptr, {3, 11, 2});
    EXPECT_TRUE(unknown.has("/usr/lib/python3.11/copy.py"));
    EXPECT_TRUE(unknown.has("/venv/lib/python3.11/site-packages/a.py"));
    EXPECT_FALSE(unknown.has("/srv/lib/python/app.py"));
    EXPECT_FALSE(unknown.has("/srv/app.py"));
}

}  // namespace
}  // namespace memtrace
