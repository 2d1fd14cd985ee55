// SPDX-License-Identifier: Apache-2.0
#include "process/reading_child.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/userfaultfd.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <numeric>
#include <vector>

#include "process/given_up.h"
#include "process/remote_memory.h"

namespace memtrace {
namespace {

using Clock = std::chrono::steady_clock;
using namespace std::chrono_literals;

constexpr size_t kBytes = 1 << 20;

// A process of ours with pages that nobody brings, and ordinary ones. It ends when told to, or with us.
class Target {
  public:
    Target() {
        shared_ = map(MAP_SHARED);
        absent_ = map(MAP_PRIVATE);
        std::iota(shared_, shared_ + kBytes / sizeof(uint32_t), 0u);
        pid_ = fork();
        if (pid_ != 0)
            return;
        auto file = static_cast<int>(syscall(SYS_userfaultfd, O_CLOEXEC));
        uffdio_api api{.api = UFFD_API, .features = 0, .ioctls = 0};
        uffdio_register range{};
        range.range = {reinterpret_cast<uint64_t>(absent_), kBytes};
        range.mode = UFFDIO_REGISTER_MODE_MISSING;
        *ready_ = file >= 0 && ioctl(file, UFFDIO_API, &api) == 0 && ioctl(file, UFFDIO_REGISTER, &range) == 0 ? 1 : 2;
        for (;;)
            pause();
    }
    ~Target() {
        kill(pid_, SIGKILL);
        waitpid(pid_, nullptr, 0);
        munmap(shared_, kBytes);
        munmap(absent_, kBytes);
    }
    bool is_ready() const {
        while (!*ready_)
            usleep(1000);
        return *ready_ == 1;
    }
    int pid() const {
        return pid_;
    }
    uint64_t good() const {
        return reinterpret_cast<uint64_t>(shared_);
    }
    uint64_t held() const {
        return reinterpret_cast<uint64_t>(absent_);
    }

  private:
    static uint32_t *map(int kind) {
        return static_cast<uint32_t *>(mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, kind | MAP_ANONYMOUS, -1, 0));
    }
    volatile uint32_t *ready_ =
        static_cast<uint32_t *>(mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
    uint32_t *shared_ = nullptr, *absent_ = nullptr;
    pid_t pid_ = 0;
};

TEST(ReadingChild, ReadsWhatIsThere) {
    Target target;
    target.is_ready();
    ProcessMemory memory(target.pid());
    std::vector<uint32_t> copy(kBytes / sizeof(uint32_t));
    ASSERT_TRUE(memory.read(target.good(), copy.data(), kBytes));
    EXPECT_EQ(copy[0], 0u);
    EXPECT_EQ(copy.back(), copy.size() - 1);
    EXPECT_EQ(memory.read_value<uint32_t>(target.good() + 400), 100u);
    EXPECT_FALSE(memory.read_value<uint32_t>(8));
    EXPECT_TRUE(memory.read(target.good(), copy.data(), 0));

    std::vector<uint64_t> addresses;
    for (uint64_t i = 0; i < 1024; i++)
        addresses.push_back(target.good() + i * 1024);
    std::vector<std::array<uint32_t, 100>> pieces(addresses.size());
    ASSERT_EQ(memory.read_each(addresses, pieces.data(), sizeof(pieces[0])), addresses.size());
    EXPECT_EQ(pieces[1023][99], 1023u * 256 + 99);
    addresses[700] = 8;
    EXPECT_EQ(memory.read_each(addresses, pieces.data(), sizeof(pieces[0])), 700u);

    char name[64] = {};
    EXPECT_GT(ReadingChild::instance().read_proc_file(target.pid(), "cmdline", 0, name, sizeof(name)), 0);
    EXPECT_EQ(ReadingChild::instance().read_proc_file(target.pid(), "no_such_file", 0, name, sizeof(name)), -1);
    EXPECT_EQ(errno, ENOENT);
}

TEST(ReadingChild, IsLeftBehindWhereAPageIsNeverBrought) {
    GivenUp &given_up = GivenUp::instance();
    size_t before = given_up.times(GivenUp::kMemory);
    Target held, other;
    if (!held.is_ready() || !other.is_ready()) {
        if (getenv("CI"))
            FAIL() << "no userfaultfd";
        GTEST_SKIP() << "userfaultfd is for root";
    }
    auto begin = Clock::now();
    EXPECT_FALSE(ProcessMemory(held.pid()).read_value<uint32_t>(held.held()));
    EXPECT_EQ(errno, ETIMEDOUT);
    EXPECT_LT(Clock::now() - begin, 3s);
    EXPECT_TRUE(given_up.contains(held.pid(), GivenUp::kMemory));
    EXPECT_FALSE(given_up.contains(held.pid(), GivenUp::kFiles));
    EXPECT_NE(given_up.why(held.pid()), "");

    // It holds us but once, and nobody else.
    begin = Clock::now();
    EXPECT_FALSE(ProcessMemory(held.pid()).read_value<uint32_t>(held.good()));
    EXPECT_LT(Clock::now() - begin, 100ms);
    EXPECT_EQ(ProcessMemory(other.pid()).read_value<uint32_t>(other.good() + 4), 1u);

    // The next has less time.
    begin = Clock::now();
    EXPECT_FALSE(ProcessMemory(other.pid()).read_value<uint32_t>(other.held()));
    EXPECT_LT(Clock::now() - begin, 1500ms);
    EXPECT_EQ(given_up.times(GivenUp::kMemory), before + 2);

    // When it has ended, another may have its number.
    given_up.forget(held.pid());
    EXPECT_EQ(ProcessMemory(held.pid()).read_value<uint32_t>(held.good() + 4), 1u);
    EXPECT_EQ(given_up.times(GivenUp::kMemory), before + 2);
}

}  // namespace
}  // namespace memtrace
