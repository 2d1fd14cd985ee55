// SPDX-License-Identifier: Apache-2.0
#include "process/short_functions.h"

#include <elf.h>

#include <array>
#include <cstring>
#include <string>
#include <string_view>

namespace memtrace {

namespace {

// Instructions of aarch64. A mask covers all of one but for its number, and register x0 is 0.
constexpr uint32_t kLandingPad = 0xd503245f;                                      // bti c
constexpr uint32_t kReturn = 0xd65f03c0;                                          // ret
constexpr uint32_t kReadThreadPointer = 0xd53bd040;                               // mrs x0, tpidr_el0
constexpr uint32_t kSubtract = 0xd1000000, kSubtractMask = 0xff8003ff;            // sub x0, x0, #...
constexpr uint32_t kSubtractIsShifted = 1 << 22;                                  // sub x0, x0, #..., lsl #12
constexpr uint32_t kAddressOfPage = 0x90000000, kAddressOfPageMask = 0x9f00001f;  // adrp x0, ...
constexpr uint32_t kLoad = 0xf9400000, kLoadMask = 0xffc003ff;                    // ldr x0, [x0, #...]

constexpr size_t kInstructions = 5;  // that are looked at

uint32_t twelve_bits(uint32_t instruction) {
    return instruction >> 10 & 0xfff;
}

// Without the landing pad, which is for functions that are called through pointers. Where the code ends before, zeros,
// which are no instruction.
std::array<uint32_t, kInstructions> read_instructions(const ElfImage &image, uint64_t &function) {
    if (image.read_value<uint32_t>(function) == kLandingPad)
        function += sizeof(uint32_t);
    std::array<uint32_t, kInstructions> code{};
    std::string text = image.read_text(function, sizeof(code));
    std::memcpy(code.data(), text.data(), text.size());
    return code;
}

// adrp x0, variable; ldr x0, [x0, :lo12:variable]; ret
std::optional<uint64_t> variable_of_aarch64(const ElfImage &image, uint64_t function) {
    constexpr int64_t kPage = 4096;  // adrp's, whatever the kernel's pages are
    auto [address_of_page, load, end, more, yet_more] = read_instructions(image, function);
    if ((address_of_page & kAddressOfPageMask) != kAddressOfPage || (load & kLoadMask) != kLoad || end != kReturn)
        return std::nullopt;
    int64_t high = static_cast<int32_t>(address_of_page << 8) >> 13;  // 19 bits, with their sign
    int64_t pages = high * 4 + (address_of_page >> 29 & 3);
    return (function & ~uint64_t{kPage - 1}) + static_cast<uint64_t>(pages * kPage) + twelve_bits(load) * 8;
}

// mov variable(%rip), %rax
std::optional<uint64_t> variable_of_x86_64(const ElfImage &image, uint64_t function) {
    std::string code = image.read_text(function, 32);
    size_t at = 0;
    // endbr64; push %rbp; mov %rsp, %rbp
    for (std::string_view prologue : {"\xf3\x0f\x1e\xfa", "\x55", "\x48\x89\xe5"})
        if (code.compare(at, prologue.size(), prologue) == 0)
            at += prologue.size();
    int32_t distance = 0;
    if (code.size() < at + 7 || code.compare(at, 3, "\x48\x8b\x05") != 0)
        return std::nullopt;
    std::memcpy(&distance, code.data() + at + 3, sizeof(distance));
    return function + at + 7 + static_cast<uint64_t>(int64_t{distance});
}

}  // namespace

std::optional<uint64_t> read_returned_variable(const ElfImage &image, uint64_t function) {
    if (image.machine == EM_AARCH64)
        return variable_of_aarch64(image, function);
    return image.machine == EM_X86_64 ? variable_of_x86_64(image, function) : std::nullopt;
}

std::optional<uint32_t> read_distance_to_thread_pointer(const ElfImage &image, uint64_t function) {
    auto code = read_instructions(image, function);
    auto instruction = code.begin();
    if (image.machine != EM_AARCH64 || *instruction++ != kReadThreadPointer)
        return std::nullopt;
    uint32_t distance = 0;
    for (; instruction != code.end() && (*instruction & kSubtractMask) == kSubtract; ++instruction)
        distance += twelve_bits(*instruction) << (*instruction & kSubtractIsShifted ? 12 : 0);
    return instruction != code.end() && *instruction == kReturn ? std::optional(distance) : std::nullopt;
}

}  // namespace memtrace
