// SPDX-License-Identifier: Apache-2.0
// What we need to know of an ELF file: where it is loaded, a few of its exported symbols, and what its memory holds
// before anything runs.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <type_traits>
#include <vector>

#include "base/file_descriptor.h"

namespace memtrace {

// Addresses are the file's own, unrelocated. The file is not mapped: it may be cut short while it is being read.
struct ElfImage {
    struct Segment {
        uint64_t address = 0;
        uint64_t file_offset = 0;
        uint64_t file_bytes = 0;  // beyond these its memory is 0
        uint64_t memory_bytes = 0;
    };

    uint16_t machine = 0;  // EM_X86_64, ...
    bool position_independent = false;
    uint64_t first_address = 0;  // lowest PT_LOAD address, page aligned
    uint64_t text_start = 0;     // of the executable PT_LOAD segments
    uint64_t text_end = 0;
    std::string loader;  // the dynamic loader's path (PT_INTERP); empty: it names none, as libraries do
    std::map<std::string, uint64_t> symbols;  // addresses of those asked for that exist
    std::map<std::string, uint64_t> imports;  // where the dynamic linker puts the addresses of those asked for
    std::vector<Segment> segments;
    std::map<uint64_t, uint64_t>
        pointers;  // those that the dynamic linker fills in, if any symbol was found: where -> unrelocated value
    FileDescriptor file;

    // The bytes that the process begins with; false when no segment has them all, or the file does not.
    bool read(uint64_t address, void *into, size_t size) const;
    // Where the file has what is loaded at this address; null when it is not from the file.
    std::optional<uint64_t> offset_of(uint64_t address) const;
    // Unrelocated too.
    std::optional<uint64_t> read_pointer(uint64_t address) const;
    // At most `size` bytes; fewer where they end.
    std::string read_text(uint64_t address, size_t size) const;

    template <typename T>
    std::optional<T> read_value(uint64_t address) const {
        static_assert(std::is_trivially_copyable_v<T>);
        T value;
        if (!read(address, &value, sizeof(value)))
            return std::nullopt;
        return value;
    }
};

// Reads the dynamic symbols named: those it has, and of `imported` those it wants of others. Null when it is no open
// ELF file of this machine's kind. It trusts libelf with the file: of a traced process's, call it in a sandbox only
// (process/sandbox.h).
std::optional<ElfImage> read_elf_image(FileDescriptor file, const std::set<std::string> &wanted,
                                       const std::set<std::string> &imported = {});

}  // namespace memtrace
