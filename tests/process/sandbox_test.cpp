// SPDX-License-Identifier: Apache-2.0
#include "process/sandbox.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <fstream>
#include <memory>
#include <sstream>
#include <vector>

#include "process/given_up.h"

namespace memtrace {
namespace {

using namespace std::chrono_literals;

std::string ask(const std::function<std::string()> &work, const SandboxLimits &limits = {}) {
    return ask_sandbox(0, limits, [&] { return work; }).value_or("(none)");
}

TEST(Sandbox, Answers) {
    EXPECT_EQ(ask([] { return std::string("forty-two"); }), "forty-two");
    EXPECT_EQ(ask([] { return std::string(100000, 'x'); }).size(), 64u << 10) << "is cut";
}

TEST(Sandbox, HasNoRights) {
    std::istringstream status(ask([] {
        std::ifstream file("/proc/self/status");
        return std::string(std::istreambuf_iterator<char>(file), {});
    }));
    std::string line;
    int seen = 0;
    while (std::getline(status, line)) {
        if (line.starts_with("CapEff:") || line.starts_with("CapPrm:") || line.starts_with("CapInh:") ||
            line.starts_with("CapAmb:")) {
            EXPECT_TRUE(line.ends_with("\t0000000000000000")) << line;
            seen++;
        }
        if (geteuid() == 0 && (line.starts_with("Uid:") || line.starts_with("Gid:"))) {
            EXPECT_TRUE(line.ends_with("\t65534\t65534\t65534\t65534")) << line;
            seen++;
        }
        if (line.starts_with("Groups:") && geteuid() == 0) {
            EXPECT_EQ(line.find_first_of("0123456789"), std::string::npos) << line;
        }
        if (line.starts_with("NoNewPrivs:") || line.starts_with("Seccomp:")) {
            EXPECT_TRUE(line.ends_with(line[0] == 'N' ? "\t1" : "\t2")) << line;
            seen++;
        }
    }
    EXPECT_EQ(seen, geteuid() == 0 ? 8 : 6);
}

TEST(Sandbox, IsRefusedWhatItDoesNotNeed) {
    EXPECT_EQ(
        ask([] {
            std::string refused;
            for (bool is_refused :
                 {socket(AF_INET, SOCK_STREAM, 0) < 0 && errno == EPERM, fork() < 0 && errno == EPERM,
                  open("/tmp/memtrace_sandbox_test", O_WRONLY | O_CREAT, 0600) < 0 && errno == EPERM,
                  execl("/bin/true", "true", nullptr) < 0 && errno == EPERM, kill(getppid(), 0) < 0 && errno == EPERM})
                refused += is_refused ? 'y' : 'n';
            return refused;
        }),
        "yyyyy");
}

TEST(Sandbox, HasWhatItOpenedBefore) {
    auto first = ask_sandbox(0, {}, [] {
        auto file = std::make_shared<int>(open("/etc/shadow", O_RDONLY | O_CLOEXEC));
        if (*file < 0)
            file = std::make_shared<int>(open("/etc/passwd", O_RDONLY | O_CLOEXEC));
        return [file] {
            std::string text(4, ' ');
            return read(*file, text.data(), text.size()) == 4 ? text : "";
        };
    });
    EXPECT_EQ(first, "root");
}

TEST(Sandbox, EndsInTime) {
    auto begin = std::chrono::steady_clock::now();
    EXPECT_EQ(ask(
                  [] {
                      for (volatile bool forever = true; forever;) {
                      }
                      return std::string("never");
                  },
                  {.time = 1s}),
              "(none)");
    EXPECT_LT(std::chrono::steady_clock::now() - begin, 3s);
}

TEST(Sandbox, AFaultIsNoAnswer) {
    EXPECT_EQ(ask([]() -> std::string {
                  raise(SIGSEGV);
                  _exit(1);
              }),
              "(none)");
    EXPECT_EQ(ask([] { return std::string(); }), "");
}

TEST(Sandbox, AProcessCanUseUpItsTimeButOnce) {
    auto forever = [] {
        return []() -> std::string {
            for (volatile bool always = true; always;) {
            }
            return "";
        };
    };
    auto answers = [] { return [] { return std::string("yes"); }; };
    EXPECT_EQ(ask_sandbox(1, {.time = 800ms}, forever), std::nullopt);
    EXPECT_EQ(ask_sandbox(1, {}, answers), std::nullopt);
    EXPECT_TRUE(GivenUp::instance().contains(1, GivenUp::kFiles));
    auto begin = std::chrono::steady_clock::now();
    EXPECT_EQ(ask_sandbox(2, {.time = 8s}, forever), std::nullopt);
    EXPECT_LT(std::chrono::steady_clock::now() - begin, 5s);
    EXPECT_EQ(ask_sandbox(3, {}, answers), "yes");
}

TEST(Sandbox, SaysWhereItCannotBeStarted) {
    auto answers = [] { return [] { return std::string("yes"); }; };
    rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    rlimit none{0, files.rlim_max};
    setrlimit(RLIMIT_NOFILE, &none);
    EXPECT_EQ(ask_sandbox(4, {}, answers), std::nullopt);
    setrlimit(RLIMIT_NOFILE, &files);
    EXPECT_NE(why_no_sandbox().find("Too many open files"), std::string::npos) << why_no_sandbox();
    EXPECT_FALSE(GivenUp::instance().contains(4));
    EXPECT_EQ(ask_sandbox(4, {}, answers), "yes");
    EXPECT_EQ(why_no_sandbox(), "");
}

#ifndef MEMTRACE_SANITIZED
TEST(Sandbox, HasABoundOfMemory) {
    EXPECT_EQ(ask([] {
                  std::vector<char> much;
                  try {
                      much.resize(size_t{1} << 30);
                  } catch (const std::bad_alloc &) {
                      return std::string("refused");
                  }
                  return std::string("had");
              }),
              "refused");
}
#endif

}  // namespace
}  // namespace memtrace
