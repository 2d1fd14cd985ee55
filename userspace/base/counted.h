// SPDX-License-Identifier: Apache-2.0
// A number with its noun, as a person would say it: "1 block", "2 blocks", "1,234 blocks".
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace memtrace {

// "1,234,567".
inline std::string with_thousands(uint64_t n) {
    std::string digits = std::to_string(n);
    for (size_t at = digits.size(); at > 3;)
        digits.insert(at -= 3, 1, ',');
    return digits;
}

// `plural` is the noun with an "s" when it is not given.
inline std::string counted(uint64_t n, std::string_view singular, std::string_view plural = "") {
    std::string text = with_thousands(n) + ' ';
    if (n == 1)
        return text.append(singular);
    return plural.empty() ? text.append(singular) + 's' : text.append(plural);
}

}  // namespace memtrace
