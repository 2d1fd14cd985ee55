// SPDX-License-Identifier: Apache-2.0
#include "symbolize/python_text.h"

#include <gtest/gtest.h>

namespace memtrace {
namespace {

TEST(PythonText, EachKindBecomesUtf8) {
    const uint8_t latin1[] = {'f', 0xe9};
    EXPECT_EQ(decode_python_text(latin1, 1), "fé");
    const uint8_t ucs2[] = {0x2d, 0x4e, 0x87, 0x65};
    EXPECT_EQ(decode_python_text(ucs2, 2), "中文");
    const uint8_t ucs4[] = {0x00, 0xf6, 0x01, 0x00};
    EXPECT_EQ(decode_python_text(ucs4, 4), "😀");
}

TEST(PythonText, WhatATerminalWouldObeyIsReplaced) {
    const uint8_t escape[] = {0x1b, '[', 'J', '\n', 0x9b};
    EXPECT_EQ(decode_python_text(escape, 1), "\ufffd[J\ufffd\ufffd");
    const uint8_t surrogate[] = {0x00, 0xd8};
    EXPECT_EQ(decode_python_text(surrogate, 2), "\ufffd");
    const uint8_t too_large[] = {0xff, 0xff, 0xff, 0xff};
    EXPECT_EQ(decode_python_text(too_large, 4), "\ufffd");
}

TEST(PythonText, NonsenseKindsAndCutCharacters) {
    const uint8_t bytes[] = {'a', 0, 'b'};
    EXPECT_EQ(decode_python_text(bytes, 3), "");
    EXPECT_EQ(decode_python_text(bytes, 2), "a");
}

TEST(PythonText, BytesAreUtf8) {
    auto decode = [](const std::string &text) {
        std::vector<uint8_t> bytes(text.begin(), text.end());
        return decode_python_text(bytes, 0);
    };
    EXPECT_EQ(decode("caf\u00e9 \u4e2d \U0001f40d"), "caf\u00e9 \u4e2d \U0001f40d");
    EXPECT_EQ(decode("a\xe9z"), "a\ufffdz");      // Latin-1
    EXPECT_EQ(decode("\xc0\xaf"), "\ufffd");      // "/" in too many bytes
    EXPECT_EQ(decode("\xed\xa0\x80"), "\ufffd");  // a surrogate
    EXPECT_EQ(decode("\xf8\x88\x80\x80\x80"), "\ufffd\ufffd\ufffd\ufffd\ufffd");
    EXPECT_EQ(decode("x\xe4\xb8"), "x\ufffd\ufffd");  // cut off
    EXPECT_EQ(decode("\x1b[2J"), "\ufffd[2J");
}

}  // namespace
}  // namespace memtrace
