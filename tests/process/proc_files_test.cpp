// SPDX-License-Identifier: Apache-2.0
#include "process/proc_files.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>

#include "base/file_descriptor.h"

namespace memtrace {
namespace {

TEST(ProcFiles, ParsesMappings) {
    auto mappings = parse_mappings(
        "00400000-0041f000 r--p 00000000 fe:00 655 /usr/bin/python3.11\n"
        "7f0000000000-7f0000021000 rw-p 00000000 00:00 0 \n"
        "7f1000000000-7f1000001000 r-xp 00002000 fe:00 9    /opt/a name (deleted)\n"
        "nonsense\n");
    ASSERT_EQ(mappings.size(), 3u);
    EXPECT_EQ(mappings[0].start, 0x400000u);
    EXPECT_EQ(mappings[0].end, 0x41f000u);
    EXPECT_EQ(mappings[0].inode, 655u);
    EXPECT_EQ(mappings[0].path(), "/usr/bin/python3.11");
    EXPECT_EQ(mappings[0].map_file(42), "/proc/42/map_files/400000-41f000");
    EXPECT_EQ(mappings[1].path(), "");
    EXPECT_EQ(mappings[2].permissions(), "r-xp");
    EXPECT_EQ(mappings[2].offset, 0x2000u);
    EXPECT_EQ(mappings[2].path(), "/opt/a name (deleted)");
}

TEST(ProcFiles, NamesAreKeptOnce) {
    MappingParser parser;
    auto first = parser.parse("1000-2000 r--p 00000000 fe:00 655 /usr/lib/a.so"),
         none = parser.parse("2000-3000 rw-p 0 00:00 0 "),
         again = parser.parse("3000-4000 r-xp 00001000 fe:00 655 /usr/lib/a.so");
    ASSERT_TRUE(first && none && again);
    EXPECT_EQ(first->name, again->name);
    EXPECT_FALSE(none->name);
}

TEST(ProcFiles, NamesThatAreTooManyAreNotKept) {
    MappingParser parser;
    std::string last;
    for (int i = 0; i < 3000; i++)
        last = parser.parse("1000-2000 r--p 00000000 fe:00 1 " + std::to_string(i) + std::string(32000, 'a'))->path();
    EXPECT_EQ(last, "?");
}

TEST(ProcFiles, LinesOfAFile) {
    char name[] = "/tmp/memtrace_lines_XXXXXX";
    FileDescriptor file(mkstemp(name));
    std::string text = "one\n\n" + std::string(200000, 'x') + "\nlast";
    ASSERT_EQ(write(file.get(), text.data(), text.size()), static_cast<ssize_t>(text.size()));
    std::vector<std::string> lines;
    std::string opened = "fd/" + std::to_string(file.get());
    EXPECT_TRUE(for_each_line(getpid(), opened, [&](std::string_view line) { lines.emplace_back(line); }));
    EXPECT_EQ(lines, (std::vector<std::string>{"one", "", std::string(32 << 10, 'x'), "last"}));
    unlink(name);
    EXPECT_FALSE(for_each_line(getpid(), "no_such_file", [](std::string_view) {}));
}

TEST(ProcFiles, CommandLinesAreSplitAtNul) {
    using Words = std::vector<std::string>;
    EXPECT_EQ(parse_command_line(std::string("a\0b c\0", 6)), (Words{"a", "b c"}));
    EXPECT_EQ(parse_command_line(std::string("a\0\0b", 4)), (Words{"a", "", "b"}));
    EXPECT_EQ(parse_command_line(""), Words{});
}

TEST(ProcFiles, CommandLinesAreBounded) {
    using Words = std::vector<std::string>;
    EXPECT_EQ(parse_command_line(std::string_view("a\0b c\0", 6)), (Words{"a", "b c"}));
    auto empty = parse_command_line(std::string(65'000, '\0'));
    EXPECT_EQ(empty.size(), 257u);
    EXPECT_EQ(empty.back(), "[more arguments]");
    auto large = parse_command_line(std::string(65'000, 'x'));
    EXPECT_EQ(large, (Words{std::string(16 << 10, 'x'), "[more arguments]"}));
}

TEST(ProcFiles, ReadsThisProcess) {
    auto mappings = read_mappings(getpid());
    ASSERT_TRUE(mappings);
    EXPECT_GT(mappings->size(), 5u);
    EXPECT_FALSE(read_identity(getpid()).cmdline.empty());
    EXPECT_TRUE(process_exists(getpid()));
    EXPECT_TRUE(has_memory(getpid()));
    EXPECT_FALSE(read_mappings(1 << 30));
    EXPECT_FALSE(process_exists(1 << 30));
}

TEST(ProcFiles, ReadsNoMoreThanTheLimit) {
    EXPECT_EQ(read_whole_file("/dev/zero", 100)->size(), 100u);
    EXPECT_FALSE(read_whole_file("/no/such/file"));
}

}  // namespace
}  // namespace memtrace
