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

}  // namespace

std::string decode_python_text(std::span<const uint8_t> bytes, unsigned char_bytes) {
    std::string text;
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
