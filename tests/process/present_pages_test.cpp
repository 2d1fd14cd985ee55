// SPDX-License-Identifier: Apache-2.0
#include "process/present_pages.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>

namespace memtrace {
namespace {

const auto kPage = static_cast<uint64_t>(getpagesize());

class PresentPagesTest : public testing::Test {
  protected:
    void SetUp() override {
        void *mapped = mmap(nullptr, 16 * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        ASSERT_NE(mapped, MAP_FAILED);
        memory = static_cast<volatile char *>(mapped);
        for (uint64_t page : {2, 3, 4, 9})
            memory[page * kPage] = 1;
        zero = memory[12 * kPage];  // the kernel's page of zeros
    }
    void TearDown() override {
        munmap(const_cast<char *>(memory), 16 * kPage);
    }
    // A character a page of ours.
    std::string drawn(const std::optional<std::vector<PageRange>> &ranges) const {
        std::string text;
        for (uint64_t page = 0; ranges && page < 16; page++) {
            uint64_t address = reinterpret_cast<uintptr_t>(memory) + page * kPage;
            text += std::any_of(ranges->begin(), ranges->end(),
                                [&](const PageRange &range) { return range.start <= address && address < range.end; })
                        ? 'p'
                        : '.';
        }
        return text;
    }

    volatile char *memory = nullptr;
    char zero = 0;
};

TEST_F(PresentPagesTest, ThoseThatWereWritten) {
    EXPECT_EQ(drawn(read_present_words(getpid())), "..ppp....p..p...");
    // By PAGEMAP_SCAN, where there is one.
    std::string found = drawn(read_present_pages(getpid()));
    EXPECT_TRUE(found == "..ppp....p......" || found == "..ppp....p..p...") << found;
}

TEST_F(PresentPagesTest, InOrderAndApart) {
    auto ranges = read_present_pages(getpid());
    ASSERT_TRUE(ranges);
    for (size_t i = 1; i < ranges->size(); i++)
        EXPECT_LT((*ranges)[i - 1].end, (*ranges)[i].start);
}

TEST(PresentPages, OfAProcessThatHasGone) {
    EXPECT_FALSE(read_present_pages(1 << 30));
    EXPECT_FALSE(read_present_words(1 << 30));
}

}  // namespace
}  // namespace memtrace
