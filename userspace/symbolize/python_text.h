// SPDX-License-Identifier: Apache-2.0
// The characters of a Python str, as UTF-8.
#pragma once

#include <cstdint>
#include <span>
#include <string>

namespace memtrace {

// `bytes` hold characters of 1 (Latin-1), 2 or 4 bytes each (PyUnicode kinds), or with 0 are UTF-8. What is no
// character becomes U+FFFD, and so do control characters: names end up on terminals.
std::string decode_python_text(std::span<const uint8_t> bytes, unsigned char_bytes);

}  // namespace memtrace
