// SPDX-License-Identifier: Apache-2.0
// Real programs with real allocators. Pythons with them are in explain_root_test.py.
#include "snapshots/c_allocator.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>

#include "process/elf_image.h"

#include "process/regular_file.h"

namespace memtrace {

namespace {

const std::string kWorkload = TESTS_DIR "/workloads/malloc.c";
const std::string kAllocators = TESTS_DIR "/../build/allocators";

class CAllocatorTest : public testing::Test {
  protected:
    void SetUp() override {
        char name[] = "/tmp/memtrace-malloc-XXXXXX";
        ASSERT_NE(mkdtemp(name), nullptr);
        folder_ = name;
    }

    void TearDown() override {
        if (child_ > 0) {
            kill(child_, SIGKILL);
            waitpid(child_, nullptr, 0);
        }
        std::filesystem::remove_all(folder_);
    }

    static bool has_allocators() {
        bool there = std::filesystem::exists(kAllocators + "/.complete");
        EXPECT_TRUE(there || !getenv("CI")) << "scripts/allocators was not run";
        return there;
    }

    std::string program() const {
        return folder_ + "/program";
    }

    void compile(const std::string &options) {
        ASSERT_EQ(std::system(("cc -o " + program() + " " + kWorkload + " " + options).c_str()), 0);
    }

    // Whose malloc the program calls, once it has.
    std::optional<CAllocator> found(const std::string &preload = "") {
        int pipes[2];
        EXPECT_EQ(pipe(pipes), 0);
        child_ = fork();
        if (child_ == 0) {
            dup2(pipes[1], 1);
            if (!preload.empty())
                setenv("LD_PRELOAD", preload.c_str(), 1);
            execl(program().c_str(), program().c_str(), nullptr);
            _exit(127);
        }
        close(pipes[1]);
        char answer = 0;
        EXPECT_EQ(read(pipes[0], &answer, 1), 1);
        EXPECT_EQ(answer, 'y');
        close(pipes[0]);
        struct stat status;
        EXPECT_EQ(stat(program().c_str(), &status), 0);
        mt_file_id file{uint64_t{major(status.st_dev)} << 20 | minor(status.st_dev), status.st_ino};
        auto mappings = read_mappings(child_).value();
        uint64_t start = 0;
        for (const Mapping &mapping : mappings)
            if (!start && mapping.inode == file.inode)
                start = mapping.start;
        uint64_t bias = start - read_elf_image(open_regular_file(program()), {})->first_address;
        return find_c_allocator(child_, mappings, file, bias, ProcessMemory(child_));
    }

    std::string folder_;
    pid_t child_ = -1;
};

TEST_F(CAllocatorTest, TheCLibrarys) {
    for (const char *options : {"", "-no-pie", "-Wl,-z,now"}) {
        compile(options);
        auto allocator = found();
        ASSERT_TRUE(allocator) << options;
        EXPECT_EQ(allocator->name, "glibc");
        EXPECT_NE(allocator->module.find("libc"), std::string::npos);
        kill(child_, SIGKILL);
        waitpid(child_, nullptr, 0);
    }
}

TEST_F(CAllocatorTest, OneThatIsPreloadedWhateverItsFileIsCalled) {
    if (!has_allocators())
        GTEST_SKIP() << "needs scripts/allocators";
    compile("");
    std::string renamed = folder_ + "/libc.so.6.1";
    std::filesystem::copy_file(kAllocators + "/usr/lib/" MULTIARCH "/libjemalloc.so.2", renamed);
    auto allocator = found(renamed);
    ASSERT_TRUE(allocator);
    EXPECT_EQ(allocator->name, "jemalloc");
    EXPECT_EQ(allocator->module, renamed);
}

TEST_F(CAllocatorTest, TheProgramsOwn) {
    compile("-DOWN_MALLOC -fno-builtin -rdynamic");
    auto allocator = found();
    ASSERT_TRUE(allocator);
    EXPECT_EQ(allocator->name, "jemalloc");
    EXPECT_EQ(allocator->module, program());
}

TEST_F(CAllocatorTest, Musls) {
    if (!has_allocators())
        GTEST_SKIP() << "needs scripts/allocators";
    std::string library = kAllocators + "/lib/" + std::string(MULTIARCH);
    library.replace(library.rfind("-gnu"), 4, "-musl");
    library += "/libc.so";
    compile("-DBARE -nostdlib -fno-builtin " + library + " -Wl,--dynamic-linker=" + library);
    auto allocator = found();
    ASSERT_TRUE(allocator);
    EXPECT_EQ(allocator->name, "musl");
}

}  // namespace

}  // namespace memtrace
