// SPDX-License-Identifier: Apache-2.0
#include "base/printable.h"

#include <fmt/format.h>

#include <cstdint>
#include <iterator>
#include <optional>

namespace memtrace {

namespace {

struct Character {
    std::optional<uint32_t> code;  // null: a byte that is no UTF-8
    size_t bytes = 1;
};

// RFC 3629: the shortest form only, no surrogates, nothing above U+10FFFF.
Character first_character(std::string_view text) {
    auto byte = [text](size_t i) { return static_cast<uint8_t>(text[i]); };
    uint8_t first = byte(0);
    if (first < 0x80)
        return {first};
    size_t more = first >= 0xf0 ? 3 : first >= 0xe0 ? 2 : 1;
    constexpr uint32_t kLeast[] = {0, 0x80, 0x800, 0x10000};
    if (first < 0xc2 || first > 0xf4 || text.size() <= more)
        return {};
    uint32_t code = first & (0x3f >> more);
    for (size_t i = 1; i <= more; i++) {
        if ((byte(i) & 0xc0) != 0x80)
            return {};
        code = code << 6 | (byte(i) & 0x3f);
    }
    bool is_surrogate = code >= 0xd800 && code < 0xe000;
    return code < kLeast[more] || is_surrogate || code > 0x10ffff ? Character{} : Character{code, more + 1};
}

bool is_shown(uint32_t code) {
    auto within = [code](uint32_t first, uint32_t last) { return code >= first && code <= last; };
    return code >= 0x20 && !within(0x7f, 0x9f) && !within(0x200b, 0x200f) && !within(0x2028, 0x202e) &&
           !within(0x2060, 0x2069) && code != 0xfeff;
}

std::string escape(std::string_view text, bool keep_lines) {
    std::string clean;
    clean.reserve(text.size());
    while (!text.empty()) {
        Character next = first_character(text);
        bool is_kept = keep_lines && (text[0] == '\n' || text[0] == '\t');
        if (is_kept || (next.code && is_shown(*next.code)))
            clean += text.substr(0, next.bytes);
        else if (next.code && *next.code > 0xff)
            fmt::format_to(std::back_inserter(clean), "\\u{:04x}", *next.code);
        else
            fmt::format_to(std::back_inserter(clean), "\\x{:02x}", next.code.value_or(static_cast<uint8_t>(text[0])));
        text.remove_prefix(next.bytes);
    }
    return clean;
}

}  // namespace

std::string printable(std::string_view text) {
    return escape(text, false);
}

std::string printable_lines(std::string_view text) {
    return escape(text, true);
}

bool is_utf8(std::string_view text) {
    while (!text.empty()) {
        Character next = first_character(text);
        if (!next.code)
            return false;
        text.remove_prefix(next.bytes);
    }
    return true;
}

size_t start_of_character(std::string_view text, size_t at) {
    if (at >= text.size())
        return text.size();
    while (at > 0 && (static_cast<uint8_t>(text[at]) & 0xc0) == 0x80)
        at--;
    return at;
}

}  // namespace memtrace
