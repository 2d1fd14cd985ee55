// SPDX-License-Identifier: Apache-2.0
// What we need to know of an ELF file: where it is loaded, and a few of its exported symbols.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <type_traits>

namespace memtrace {

// An exported symbol: its unrelocated address, and what the file holds there (zeros where the file holds nothing).
struct ElfSymbol {
    uint64_t address = 0;
    std::array<uint8_t, 64> contents{};

    template <typename T>
    T value_at(size_t offset) const {
        T value;
        static_assert(std::is_trivially_copyable_v<T>);
        std::memcpy(&value, contents.data() + offset, sizeof(value));
        return value;
    }
};

struct ElfImage {
    bool position_independent = false;
    uint64_t first_address = 0;  // lowest PT_LOAD address, page aligned
    uint64_t text_start = 0;     // of the executable PT_LOAD segments
    uint64_t text_end = 0;
    std::map<std::string, ElfSymbol> symbols;  // of those asked for: the ones that exist
};

// Reads the dynamic symbols named. Null when the file cannot be opened or is no ELF file of this machine's kind.
std::optional<ElfImage> read_elf_image(const std::string &path, const std::set<std::string> &wanted);

}  // namespace memtrace
