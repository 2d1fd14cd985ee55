// SPDX-License-Identifier: Apache-2.0
#include "process/memory_map.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

namespace memtrace {

namespace {

TEST(MemoryMapTest, SaysWhatIsInMemory) {
    constexpr size_t kSize = 1 << 20, kTouched = 300 << 10;
    void *at = mmap(nullptr, kSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    std::memset(at, 1, kTouched);
    auto all = read_memory_map(getpid());
    ASSERT_TRUE(all);
    const auto &parts = all->parts;
    auto address = reinterpret_cast<uint64_t>(at);
    auto found = std::find_if(parts.begin(), parts.end(), [address](const MappedMemory &part) {
        return part.mapping.start <= address && address < part.mapping.end;
    });
    ASSERT_NE(found, parts.end());
    EXPECT_GE(found->rss_bytes, static_cast<int64_t>(kTouched));
    EXPECT_EQ(found->rss_bytes, found->anonymous_bytes);
    munmap(at, kSize);
}

TEST(MemoryMapTest, TellsMappingsFromFigures) {
    auto all =
        parse_memory_map(
            "5500-7700 rw-p 00000000 fd:01 12   /tmp/Rss: 5 kB\nSize:   8 kB\nRss:       12 kB\nAnonymous:  4 kB\n"
            "Pss:       3 kB\nLazyFree:   0 kB\nSwap:      16 kB\nVmFlags: rd wr\nf0000-f1000 ---p 00000000 00:00 0 "
            "\nRss:   0 kB\n")
            .parts;
    ASSERT_EQ(all.size(), 2u);
    EXPECT_EQ(all[0].mapping.path(), "/tmp/Rss: 5 kB");
    EXPECT_EQ(all[0].rss_bytes, 12 << 10);
    EXPECT_EQ(all[0].anonymous_bytes, 4 << 10);
    EXPECT_EQ(all[0].pss_bytes, 3 << 10);
    EXPECT_EQ(all[0].swap_bytes, 16 << 10);
    EXPECT_EQ(all[1].mapping.start, 0xf0000u);
}

TEST(MemoryMapTest, GarbageIsNothing) {
    EXPECT_TRUE(parse_memory_map("").parts.empty());
    EXPECT_TRUE(parse_memory_map("Rss: 12 kB\n\n\n-\n").parts.empty());
}

// No figure is cut off in silence.
TEST(MemoryMapTest, OfMoreMappingsThanItKeepsItSaysWhatIsResident) {
    std::string text;
    constexpr size_t kMore = 3;
    for (size_t i = 0; i < kMaxMappings + kMore; i++)
        text += "1000-2000 rw-p 00000000 00:00 0 \nRss: 4 kB\nVmFlags: rd\n";
    MemoryMap map = parse_memory_map(text);
    EXPECT_EQ(map.parts.size(), kMaxMappings);
    EXPECT_EQ(map.parts.back().rss_bytes, 4 << 10);
    EXPECT_EQ(map.left_out, kMore);
    EXPECT_EQ(map.left_out_rss_bytes, int64_t{kMore} * (4 << 10));
}

TEST(MemoryMapTest, AFigureThatCannotBeIsNotAddedUpToNonsense) {
    auto parts =
        parse_memory_map("1000-2000 rw-p 0 00:00 0 \nRss: 99999999999999999999 kB\nPss: 9223372036854775807 kB\n")
            .parts;
    ASSERT_EQ(parts.size(), 1u);
    EXPECT_GE(parts[0].rss_bytes, 0);
    EXPECT_GE(parts[0].pss_bytes, 0);
}

}  // namespace

}  // namespace memtrace
