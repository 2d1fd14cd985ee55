// SPDX-License-Identifier: Apache-2.0
#include "base/printable.h"

#include <gtest/gtest.h>

namespace memtrace {
namespace {

TEST(Printable, LeavesTextAsItIs) {
    for (const char *text : {"", "render() 7.63 MiB",
                             "Gr\xc3\xb6\xc3\x9f"
                             "e",
                             "\xe2\x82\xac", "\xf0\x9f\x90\x8d", "a\\b"})
        EXPECT_EQ(printable(text), text);
}

TEST(Printable, ShowsWhatATerminalWouldObey) {
    EXPECT_EQ(printable("\x1b]0;owned\x07"), "\\x1b]0;owned\\x07");
    EXPECT_EQ(printable("a\r\nb\tc\x7f"), "a\\x0d\\x0ab\\x09c\\x7f");
    EXPECT_EQ(printable(std::string_view("\0", 1)), "\\x00");
    EXPECT_EQ(printable("\xc2\x9b"
                        "31m \xc2\x85"),
              "\\x9b31m \\x85");  // C1, of which a terminal obeys U+009B as ESC [
    EXPECT_EQ(printable("\xe2\x80\xae\xe2\x80\xa8\xef\xbb\xbf"), "\\u202e\\u2028\\ufeff");
}

TEST(Printable, ShowsBytesThatAreNoUtf8) {
    EXPECT_EQ(printable("\x9b"
                        "31m\xff"),
              "\\x9b31m\\xff");
    EXPECT_EQ(printable("\xed\xb3\xbf"), "\\xed\\xb3\\xbf");           // a surrogate
    EXPECT_EQ(printable("\xc0\x9b"), "\\xc0\\x9b");                    // not the shortest form
    EXPECT_EQ(printable("\xf5\x80\x80\x80"), "\\xf5\\x80\\x80\\x80");  // above U+10FFFF
    EXPECT_EQ(printable("\xf4\x90\x80\x80"), "\\xf4\\x90\\x80\\x80");
    EXPECT_EQ(printable("\xe2\x82"), "\\xe2\\x82");  // cut off
    EXPECT_EQ(printable("\xe2\x82"
                        "a"),
              "\\xe2\\x82"
              "a");
}

TEST(Printable, IsCutBetweenCharacters) {
    std::string text =
        "a\xe2\x82\xac"
        "b";
    EXPECT_EQ(start_of_character(text, 1), 1u);
    EXPECT_EQ(start_of_character(text, 2), 1u);
    EXPECT_EQ(start_of_character(text, 3), 1u);
    EXPECT_EQ(start_of_character(text, 4), 4u);
    EXPECT_EQ(start_of_character(text, 9), text.size());
}

TEST(Printable, LinesKeepTheirEndsAndTabs) {
    EXPECT_EQ(printable_lines("a\n\tb\x1b\n"), "a\n\tb\\x1b\n");
}

}  // namespace
}  // namespace memtrace
