// SPDX-License-Identifier: Apache-2.0
#include "symbolize/code_table.h"

#include <gtest/gtest.h>

#include "fixtures.h"

namespace memtrace {
namespace {

TEST(CodeTable, ResolvesAStackToLines) {
    CodeTable codes;
    FakeMemory memory;
    ASSERT_TRUE(
        codes.add_code(code_record(1, 100, "/a.py", "f", 10, one_line_an_instruction(5)), layout_3_11(), memory));
    ASSERT_TRUE(
        codes.add_code(code_record(1, 200, "/a.py", "<module>", 0, one_line_an_instruction(5)), layout_3_11(), memory));
    ASSERT_TRUE(codes.add_stack(stack_record(1, 7, {{100, 2}, {200, 4}})));
    const auto *frames = codes.resolve(1, 7);
    ASSERT_TRUE(frames);
    ASSERT_EQ(frames->size(), 2u);
    EXPECT_EQ((*frames)[0].code->function, "f");
    EXPECT_EQ((*frames)[0].line, 13);
    EXPECT_EQ((*frames)[1].line, 5);
    EXPECT_FALSE(codes.resolve(2, 7)) << "another process's";
    EXPECT_FALSE(codes.resolve(1, 8));
}

TEST(CodeTable, OneAccountIsForgotten) {
    CodeTable codes;
    FakeMemory memory;
    for (uint32_t account : {1, 2, 3}) {
        auto record = code_record(account, 100, "/a.py", "f", 10, one_line_an_instruction(5));
        ASSERT_TRUE(codes.add_code(record, layout_3_11(), memory));
        ASSERT_TRUE(codes.add_stack(stack_record(account, 7, {{100, 2}})));
        ASSERT_TRUE(codes.resolve(account, 7));
    }
    codes.forget(2);
    EXPECT_FALSE(codes.resolve(2, 7));
    EXPECT_FALSE(codes.code_object(2, 100, 0));
    for (uint32_t account : {1, 3})
        EXPECT_EQ(codes.resolve(account, 7)->at(0).line, 13);
}

TEST(CodeTable, AFrameWhoseCodeNeverArrivedIsNamedUnknown) {
    CodeTable codes;
    ASSERT_TRUE(codes.add_stack(stack_record(1, 7, {{100, 0}})));
    EXPECT_EQ(codes.resolve(1, 7)->at(0).code->file, "?");
    EXPECT_FALSE(codes.resolve(1, 7)->at(0).line);
}

TEST(CodeTable, WhatTheKernelCouldNotCopyIsReadFromTheProcess) {
    FakeMemory memory;
    memory.put_string(0x1000, "/late.py");
    memory.put_string(0x2000, "late");
    memory.put_bytes(0x3000, one_line_an_instruction(3));
    CodeTable codes;
    auto record = code_record(1, 100, "", "", 1, {}, MT_MISSING_FILE | MT_MISSING_NAME | MT_MISSING_TABLE);
    ASSERT_TRUE(codes.add_code(record, layout_3_11(), memory));
    ASSERT_TRUE(codes.add_stack(stack_record(1, 7, {{100, 1}})));
    auto frame = codes.resolve(1, 7)->at(0);
    EXPECT_EQ(frame.code->file, "/late.py");
    EXPECT_EQ(frame.code->function, "late");
    EXPECT_EQ(frame.line, 3);
    EXPECT_EQ(codes.incomplete(), 0u);
}

TEST(CodeTable, WhatCannotBeReadIsCounted) {
    CodeTable codes;
    FakeMemory nothing;
    ASSERT_TRUE(codes.add_code(code_record(1, 100, "", "f", 1, {}, MT_MISSING_FILE), layout_3_11(), nothing));
    EXPECT_EQ(codes.incomplete(), 1u);
}

TEST(CodeTable, WhatLiesThereNowIsNotTakenForIt) {
    FakeMemory memory;
    memory.put_string(0x1000, "");  // the file's name was longer: the code object has gone since
    auto record = code_record(1, 100, "", "f", 1, {}, MT_MISSING_FILE);
    uint64_t length = 20000;
    std::memcpy(record.data() + offsetof(mt_code_header, file) + offsetof(mt_text, length), &length, sizeof(length));
    CodeTable codes;
    ASSERT_TRUE(codes.add_code(record, layout_3_11(), memory));
    ASSERT_TRUE(codes.add_stack(stack_record(1, 7, {{100, 1}})));
    EXPECT_EQ(codes.resolve(1, 7)->at(0).code->file, "?");
    EXPECT_EQ(codes.incomplete(), 1u);
}

TEST(CodeTable, HostileLengthsAreRefused) {
    FakeMemory memory;
    std::vector<uint8_t> huge(64);
    uint64_t length = UINT64_MAX / 2;
    uint32_t state = 4 << 2 | 1 << 5;
    std::memcpy(huge.data() + 16, &length, 8);
    std::memcpy(huge.data() + 32, &state, 4);
    memory.put(0x1000, huge);
    memory.put(0x3000, huge);
    CodeTable codes;
    ASSERT_TRUE(
        codes.add_code(code_record(1, 100, "", "f", 1, {}, MT_MISSING_FILE | MT_MISSING_TABLE), layout_3_11(), memory));
    EXPECT_EQ(codes.incomplete(), 1u);
}

TEST(CodeTable, MalformedRecordsAreRefused) {
    CodeTable codes;
    FakeMemory memory;
    auto code = code_record(1, 100, "/a.py", "f", 10, one_line_an_instruction(5));
    auto stack = stack_record(1, 7, {{100, 2}, {200, 4}});
    for (size_t cut = 0; cut < code.size(); cut++)
        EXPECT_FALSE(codes.add_code({code.data(), cut}, layout_3_11(), memory)) << cut;
    for (size_t cut = 0; cut < stack.size(); cut++)
        EXPECT_FALSE(codes.add_stack({stack.data(), cut})) << cut;
    uint32_t too_many = MT_MAX_FRAMES + 1;
    std::memcpy(stack.data() + offsetof(mt_stack_record, frame_count), &too_many, 4);
    EXPECT_FALSE(codes.add_stack(stack));
}

}  // namespace
}  // namespace memtrace
