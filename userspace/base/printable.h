// SPDX-License-Identifier: Apache-2.0
// What others have written, without what a terminal would obey or a reader would not see.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace memtrace {

// As one line. Control characters (C0, DEL and C1), bytes that are no UTF-8, and characters that turn, hide or break
// text (U+200B to U+200F, U+2028 to U+202E, U+2060 to U+2069, U+FEFF) become escapes as in Python: \x1b, \u202e.
std::string printable(std::string_view text);

// The same for a text of lines, whose newlines and tabs stay. All that goes to a person goes through this.
std::string printable_lines(std::string_view text);

bool is_utf8(std::string_view text);

// The last place up to `at` where such a text may be cut.
size_t start_of_character(std::string_view text, size_t at);

}  // namespace memtrace
