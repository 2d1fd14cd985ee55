// SPDX-License-Identifier: Apache-2.0
// Where a static probe's arguments are, as its ELF note says: "8@%r14 -4@112(%rsp)" on x86-64, "8@x19 4@[sp, 12]" on
// arm64. The text is the target's, and may be anything.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

namespace memtrace {

struct UsdtArgument {
    enum Kind { kConstant, kRegister, kMemory };

    Kind kind = kConstant;
    bool is_signed = false;
    int bytes = 0;            // 1, 2, 4 or 8
    int64_t value = 0;        // of a constant; of memory: what is added to the register
    int16_t register_at = 0;  // the register's offset in the kernel's pt_regs

    bool operator==(const UsdtArgument &) const = default;
};

// Pure. Null when one of them is of a kind that memtrace does not know (an index register, a symbol, a float), or the
// text is no description of arguments. `machine` is EM_X86_64 or EM_AARCH64.
std::optional<std::vector<UsdtArgument>> parse_usdt_arguments(std::string_view text, uint16_t machine);

}  // namespace memtrace
