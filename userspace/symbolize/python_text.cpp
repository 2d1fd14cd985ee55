// SPDX-License-Identifier: Apache-2.0
#include "symbolize/python_text.h"

namespace memtrace {

namespace {

void append_utf8(std::string &text, uint32_t c) {
    bool control = c < 0x20 || (c >= 0x7f && c < 0xa0);
    if (control || (c >= 0xd800 && c < 0xe000) || c > 0x10ffff)
        c = 0xfffd;
    if (c < 0x80) {
        text += static_cast<char>(c);
    } else if (c < 0x800) {
        text += static_cast<char>(0xc0 | c >> 6);
        text += static_cast<char>(0x80 | (c & 0x3f));
    } else if (c < 0x10000) {
        text += static_cast<char>(0xe0 | c >> 12);
        text += static_cast<char>(0x80 | (c >> 6 & 0x3f));
        text += static_cast<char>(0x80 | (c & 0x3f));
    } else {
        text += static_cast<char>(0xf0 | c >> 18);
        text += static_cast<char>(0x80 | (c >> 12 & 0x3f));
        text += static_cast<char>(0x80 | (c >> 6 & 0x3f));
        text += static_cast<char>(0x80 | (c & 0x3f));
    }
}

// The character at `at`, which is moved to the next one; 0xfffd, and one byte on, where there is none.
uint32_t next_utf8(std::span<const uint8_t> bytes, size_t &at) {
    uint8_t first = bytes[at++];
    unsigned more = first < 0x80 ? 0 : first >= 0xf0 && first < 0xf8 ? 3 : first >= 0xe0 ? 2 : 1;
    if (!more)
        return first;
    uint32_t c = first & (0x3f >> more), least = more == 1 ? 0x80 : more == 2 ? 0x800 : 0x10000;
    if (first < 0xc0 || first >= 0xf8 || at + more > bytes.size())
        return 0xfffd;
    for (unsigned k = 0; k < more; k++) {
        if ((bytes[at + k] & 0xc0) != 0x80)
            return 0xfffd;
        c = c << 6 | (bytes[at + k] & 0x3f);
    }
    at += more;
    return c < least ? 0xfffd : c;
}

}  // namespace

std::string decode_python_text(std::span<const uint8_t> bytes, unsigned char_bytes) {
    std::string text;
    if (char_bytes == 0)
        for (size_t at = 0; at < bytes.size();)
            append_utf8(text, next_utf8(bytes, at));
    if (char_bytes != 1 && char_bytes != 2 && char_bytes != 4)
        return text;
    text.reserve(bytes.size());
    for (size_t i = 0; i + char_bytes <= bytes.size(); i += char_bytes) {
        uint32_t c = 0;
        for (unsigned k = 0; k < char_bytes; k++)
            c |= static_cast<uint32_t>(bytes[i + k]) << (8 * k);
        append_utf8(text, c);
    }
    return text;
}

}  // namespace memtrace
