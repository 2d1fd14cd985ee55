// SPDX-License-Identifier: Apache-2.0
// The decoder against the interpreter's own answers, for every instruction of thousands of code objects.
#include "symbolize/location_table.h"

#include <gtest/gtest.h>
#include <stdio.h>

#include <memory>
#include <sstream>
#include <string>
#include <vector>

namespace memtrace {
namespace {

std::vector<uint8_t> from_hex(const std::string &hex) {
    std::vector<uint8_t> bytes;
    for (size_t i = 0; i + 1 < hex.size(); i += 2)
        bytes.push_back(static_cast<uint8_t>(std::stoi(hex.substr(i, 2), nullptr, 16)));
    return bytes;
}

TEST(LocationTable, AgreesWithTheInterpreterOnEveryInstruction) {
    std::unique_ptr<FILE, int (*)(FILE *)> python(
        popen("/usr/bin/python3.11 -B " TESTS_DIR "/symbolize/dump_line_tables.py", "r"), pclose);
    ASSERT_TRUE(python);
    std::string text;
    char buffer[65536];
    while (size_t n = fread(buffer, 1, sizeof(buffer), python.get()))
        text.append(buffer, n);

    size_t instructions = 0;
    std::istringstream rows(text);
    int first_line;
    std::string hex, expected;
    while (rows >> first_line >> hex >> expected) {
        auto table = from_hex(hex);
        auto all = lines_of(table, first_line);
        std::istringstream lines(expected);
        std::string line;
        for (int64_t offset = 0; std::getline(lines, line, ','); offset += 2, instructions++) {
            auto ours = line_at(table, first_line, offset);
            ASSERT_EQ(ours ? std::to_string(*ours) : "-", line) << "at byte " << offset << " of " << hex;
            ASSERT_TRUE(!ours || all.contains(*ours));
        }
        EXPECT_FALSE(line_at(table, first_line, int64_t{1} << 40));
    }
    EXPECT_GT(instructions, 20'000u);
}

TEST(LocationTable, BeforeTheFirstInstructionIsTheFirstLine) {
    EXPECT_EQ(line_at({}, 17, -2), 17);
}

TEST(LocationTable, DamagedTablesEndTheSearch) {
    EXPECT_FALSE(line_at({}, 1, 0));
    const uint8_t no_entry[] = {0x01, 0x02};
    EXPECT_FALSE(line_at(no_entry, 1, 0));
    // A long entry whose number never ends.
    std::vector<uint8_t> endless(1000, 0x7f);
    endless[0] = 0x80 | 13 << 3;
    EXPECT_FALSE(line_at(endless, 1, 4));
    EXPECT_LE(lines_of(endless, 1).size(), 1u);
    // An entry cut off after its first byte.
    const uint8_t cut[] = {0x80 | 13 << 3};
    EXPECT_EQ(line_at(cut, 5, 0), 5);
}

}  // namespace
}  // namespace memtrace
