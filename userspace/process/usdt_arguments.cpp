// SPDX-License-Identifier: Apache-2.0
#include "process/usdt_arguments.h"

#include <elf.h>

#include <algorithm>
#include <array>
#include <charconv>

namespace memtrace {

namespace {

constexpr size_t kMaxArguments = 12;  // as many as usdt.bpf.h has room for

// Each takes what it looks for from the front of the text, or takes nothing.
bool take(std::string_view &text, char wanted) {
    if (!text.starts_with(wanted))
        return false;
    text.remove_prefix(1);
    return true;
}

std::optional<int64_t> take_number(std::string_view &text) {
    int64_t number = 0;
    auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (error != std::errc())
        return std::nullopt;
    text.remove_prefix(static_cast<size_t>(end - text.data()));
    return number;
}

std::string_view take_name(std::string_view &text) {
    size_t length = text.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789");
    std::string_view name = text.substr(0, length);
    text.remove_prefix(name.size());
    return name;
}

int16_t place_of_word(size_t number) {
    return static_cast<int16_t>(8 * number);
}

// In the order of struct pt_regs (arch/x86/include/uapi/asm/ptrace.h), by the names of their 8, 4, 2 and 1 low bytes.
std::optional<int16_t> find_x86_register(std::string_view name) {
    struct Named {
        size_t place;
        std::array<std::string_view, 4> names;
    };
    static constexpr Named kNamed[] = {
        {4, {"rbp", "ebp", "bp", "bpl"}},  {5, {"rbx", "ebx", "bx", "bl"}},   {10, {"rax", "eax", "ax", "al"}},
        {11, {"rcx", "ecx", "cx", "cl"}},  {12, {"rdx", "edx", "dx", "dl"}},  {13, {"rsi", "esi", "si", "sil"}},
        {14, {"rdi", "edi", "di", "dil"}}, {19, {"rsp", "esp", "sp", "spl"}},
    };
    for (const Named &named : kNamed)
        if (std::find(named.names.begin(), named.names.end(), name) != named.names.end())
            return place_of_word(named.place);
    // r15 to r12 come first, and r11 to r8 after rbx.
    if (!name.starts_with('r'))
        return std::nullopt;
    name.remove_prefix(1);
    auto number = take_number(name);
    if (!number || *number < 8 || *number > 15 || (!name.empty() && name != "d" && name != "w" && name != "b"))
        return std::nullopt;
    return place_of_word(static_cast<size_t>(*number >= 12 ? 15 - *number : 6 + 11 - *number));
}

// struct user_pt_regs (arch/arm64/include/uapi/asm/ptrace.h): regs[31], sp, pc, pstate.
std::optional<int16_t> find_arm64_register(std::string_view name) {
    if (name == "sp" || name == "wsp")
        return place_of_word(31);
    if (!name.starts_with('x') && !name.starts_with('w'))
        return std::nullopt;
    name.remove_prefix(1);
    auto number = take_number(name);
    if (!number || *number < 0 || *number > 30 || !name.empty())
        return std::nullopt;
    return place_of_word(static_cast<size_t>(*number));
}

// "%rax", "$5", "(%rsp)", "-20(%rbp)".
bool parse_x86(std::string_view &text, UsdtArgument &argument) {
    std::optional<int16_t> found;
    if (take(text, '$')) {
        auto value = take_number(text);
        argument.value = value.value_or(0);
        return value.has_value();
    }
    if (take(text, '%')) {
        argument.kind = UsdtArgument::kRegister;
        found = find_x86_register(take_name(text));
    } else {
        argument.kind = UsdtArgument::kMemory;
        argument.value = take_number(text).value_or(0);
        if (!take(text, '(') || !take(text, '%'))
            return false;
        found = find_x86_register(take_name(text));
        if (!take(text, ')'))
            return false;
    }
    argument.register_at = found.value_or(0);
    return found.has_value();
}

// "x19", "5", "[sp]", "[sp, 12]".
bool parse_arm64(std::string_view &text, UsdtArgument &argument) {
    std::optional<int16_t> found;
    if (auto value = take_number(text)) {
        argument.value = *value;
        return true;
    }
    if (take(text, '[')) {
        argument.kind = UsdtArgument::kMemory;
        found = find_arm64_register(take_name(text));
        if (take(text, ',')) {
            while (take(text, ' ')) {
            }
            auto value = take_number(text);
            if (!value)
                return false;
            argument.value = *value;
        }
        if (!take(text, ']'))
            return false;
    } else {
        argument.kind = UsdtArgument::kRegister;
        found = find_arm64_register(take_name(text));
    }
    argument.register_at = found.value_or(0);
    return found.has_value();
}

// "-4@112(%rsp)": four bytes, signed.
bool parse_argument(std::string_view &text, uint16_t machine, UsdtArgument &argument) {
    auto size = take_number(text);
    if (!size || !take(text, '@'))
        return false;
    argument.is_signed = *size < 0;
    for (int bytes : {1, 2, 4, 8})
        if (*size == bytes || *size == -bytes)
            argument.bytes = bytes;
    if (!argument.bytes)
        return false;
    return machine == EM_AARCH64 ? parse_arm64(text, argument) : machine == EM_X86_64 && parse_x86(text, argument);
}

}  // namespace

std::optional<std::vector<UsdtArgument>> parse_usdt_arguments(std::string_view text, uint16_t machine) {
    std::vector<UsdtArgument> arguments;
    for (;;) {
        while (take(text, ' ')) {
        }
        if (text.empty())
            return arguments;
        if (arguments.size() == kMaxArguments || !parse_argument(text, machine, arguments.emplace_back()) ||
            (!text.empty() && text.front() != ' '))
            return std::nullopt;
    }
}

}  // namespace memtrace
