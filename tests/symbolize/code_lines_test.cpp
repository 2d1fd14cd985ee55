// SPDX-License-Identifier: Apache-2.0
// The decoder against the interpreter's own answers, for every instruction of thousands of code objects.
#include "symbolize/code_lines.h"

#include <gtest/gtest.h>
#include <stdio.h>
#include <unistd.h>

#include <memory>
#include <sstream>
#include <string>
#include <tuple>
#include <vector>

namespace memtrace {
namespace {

std::vector<uint8_t> from_hex(const std::string &hex) {
    std::vector<uint8_t> bytes;
    for (size_t i = 0; i + 1 < hex.size(); i += 2)
        bytes.push_back(static_cast<uint8_t>(std::stoi(hex.substr(i, 2), nullptr, 16)));
    return bytes;
}

struct Interpreter {
    std::string command;
    mt_line_format format;
    int instruction_bytes;
};

void PrintTo(const Interpreter &interpreter, std::ostream *out) {
    *out << interpreter.command;
}

class LineTables : public testing::TestWithParam<Interpreter> {};

TEST_P(LineTables, AgreeWithTheInterpreterOnEveryInstruction) {
    std::string command = GetParam().command + " -B " TESTS_DIR "/symbolize/dump_line_tables.py";
    std::unique_ptr<FILE, int (*)(FILE *)> python(popen(command.c_str(), "r"), pclose);
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
        auto table = from_hex(hex == "-" ? "" : hex);
        CodeLines decoded(GetParam().format, table, first_line);
        auto all = decoded.all();
        std::istringstream lines(expected);
        std::string line;
        for (int64_t offset = 0; std::getline(lines, line, ',');
             offset += GetParam().instruction_bytes, instructions++) {
            auto ours = decoded.at(offset);
            ASSERT_EQ(ours ? std::to_string(*ours) : "-", line) << "at byte " << offset << " of " << hex;
            ASSERT_TRUE(!ours || all.contains(*ours));
        }
        if (GetParam().format >= MT_LINES_RANGES) {
            EXPECT_FALSE(decoded.at(int64_t{1} << 40));
        }
    }
    EXPECT_GT(instructions, 20'000u);
}

// Debian 12's own, and those that scripts/pythons got.
std::vector<Interpreter> interpreters() {
    std::vector<Interpreter> all = {{"/usr/bin/python3.11", MT_LINES_LOCATIONS, 2}};
    std::string pythons = TESTS_DIR "/../build/pythons/";
    const std::tuple<std::string, mt_line_format, int> others[] = {
        {"2.7", MT_LINES_UNSIGNED, 1},
        {"3.9", MT_LINES_SIGNED, 2},
        {"pyenv-3.10", MT_LINES_RANGES, 2},
    };
    for (const auto &[version, format, bytes] : others) {
        std::string number = version.substr(version.rfind('-') + 1);
        std::string home = pythons + version + (version == number ? "/usr" : "");
        std::string python = home + "/bin/python" + number;
        if (access(python.c_str(), X_OK) == 0)
            all.push_back({"PYTHONHOME=" + home + " " + python, format, bytes});
    }
    return all;
}

INSTANTIATE_TEST_SUITE_P(Interpreters, LineTables, testing::ValuesIn(interpreters()));

// What the interpreter's sources say of these formats, by hand: no 3.10 need be here.
TEST(RangeTable, LinesMayBeMissing) {
    const uint8_t table[] = {4, 1, 2, 0x80, 0, 5, 6, 0xfe};  // +1; none; two pairs that are one jump: +5, -2
    const std::pair<int64_t, std::optional<int>> expected[] = {{0, 11}, {3, 11},  {4, std::nullopt}, {5, std::nullopt},
                                                               {6, 14}, {11, 14}, {12, std::nullopt}};
    for (auto [offset, line] : expected)
        EXPECT_EQ(CodeLines(MT_LINES_RANGES, table, 10).at(offset), line) << offset;
    EXPECT_EQ(CodeLines(MT_LINES_RANGES, table, 10).all(), (std::set<int>{11, 14}));
}

TEST(NotesTable, StepsAreSignedFrom36On) {
    const uint8_t table[] = {6, 1, 4, 0xff, 0, 0xff};  // at 6: +1; at 10: -1 twice, or +255 twice
    for (auto [format, last] : {std::pair{MT_LINES_SIGNED, 9}, {MT_LINES_UNSIGNED, 521}}) {
        EXPECT_EQ(CodeLines(format, table, 10).at(5), 10);
        EXPECT_EQ(CodeLines(format, table, 10).at(6), 11);
        EXPECT_EQ(CodeLines(format, table, 10).at(10), last);
        EXPECT_EQ(CodeLines(format, table, 10).at(4000), last);
    }
    EXPECT_EQ(CodeLines(MT_LINES_SIGNED, {}, 10).at(5), 10);
}

TEST(LocationTable, BeforeTheFirstInstructionIsTheFirstLine) {
    EXPECT_EQ(CodeLines(MT_LINES_LOCATIONS, {}, 17).at(-2), 17);
}

TEST(LocationTable, DamagedTablesEndTheSearch) {
    EXPECT_FALSE(CodeLines(MT_LINES_LOCATIONS, {}, 1).at(0));
    const uint8_t no_entry[] = {0x01, 0x02};
    EXPECT_FALSE(CodeLines(MT_LINES_LOCATIONS, no_entry, 1).at(0));
    // A long entry whose number never ends.
    std::vector<uint8_t> endless(1000, 0x7f);
    endless[0] = 0x80 | 13 << 3;
    EXPECT_FALSE(CodeLines(MT_LINES_LOCATIONS, endless, 1).at(4));
    EXPECT_LE(CodeLines(MT_LINES_LOCATIONS, endless, 1).all().size(), 1u);
    // An entry cut off after its first byte.
    const uint8_t cut[] = {0x80 | 13 << 3};
    EXPECT_EQ(CodeLines(MT_LINES_LOCATIONS, cut, 5).at(0), 5);
}

// A million entries, asked for a million times.
TEST(LocationTable, IsDecodedOnce) {
    std::vector<uint8_t> table;
    for (int i = 0; i < 1'000'000; i++)
        table.push_back(static_cast<uint8_t>(0x80 | (10 + i % 3) << 3));  // one code unit; the line is 0, 1 or 2 higher
    CodeLines lines(MT_LINES_LOCATIONS, table, 1);
    EXPECT_LE(lines.bytes(), 8u << 20);
    int64_t line = 1;
    for (int i = 0; i < 1'000'000; i++) {
        line += i % 3;
        ASSERT_EQ(lines.at(2 * i), line);
    }
}

TEST(LocationTable, LinesThatCannotBeAreNone) {
    // Each line is 2^35 - 1 above the one before.
    std::vector<uint8_t> table;
    for (int i = 0; i < 1000; i++)
        for (int byte : {0x80 | 13 << 3, 0x7e, 0x7f, 0x7f, 0x7f, 0x7f, 0x3f})
            table.push_back(static_cast<uint8_t>(byte));
    CodeLines lines(MT_LINES_LOCATIONS, table, 1);
    EXPECT_FALSE(lines.at(0));
    EXPECT_FALSE(lines.at(1998));
    EXPECT_TRUE(lines.all().empty());
}

}  // namespace
}  // namespace memtrace
