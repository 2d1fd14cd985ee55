// SPDX-License-Identifier: Apache-2.0
#include "snapshots/c_allocator.h"

#include <algorithm>
#include <set>

#include "process/elf_image.h"

namespace memtrace {

namespace {

// What an allocator exports beside malloc, and no other does. Those of C libraries come last: one may have an allocator
// linked into it.
struct Marker {
    const char *symbol;
    const char *name;
};
constexpr Marker kMarkers[] = {
    {"mallctl", "jemalloc"},   {"je_mallctl", "jemalloc"}, {"MallocExtension_GetNumericProperty", "tcmalloc"},
    {"tc_malloc", "tcmalloc"}, {"mi_malloc", "mimalloc"},  {"gnu_get_libc_version", "glibc"},
    {"__dls3", "musl"},  // part of its dynamic linker, which it is too
};

std::set<std::string> marker_symbols() {
    std::set<std::string> symbols;
    for (const Marker &marker : kMarkers)
        symbols.insert(marker.symbol);
    return symbols;
}

// Opens the file that this mapping is of, whatever happened to its name.
std::optional<ElfImage> read_image(int pid, const Mapping &mapping, const std::set<std::string> &symbols,
                                   const std::set<std::string> &imports) {
    return read_elf_image(mapping.map_file(pid), symbols, imports);
}

}  // namespace

std::optional<CAllocator> find_c_allocator(int pid, const std::vector<Mapping> &mappings, const mt_file_id &module,
                                           uint64_t bias, const RemoteMemory &memory) {
    auto caller = std::find_if(mappings.begin(), mappings.end(), [&](const Mapping &mapping) {
        return mapping.inode == module.inode && mapping.device == module.device;
    });
    if (caller == mappings.end())
        return std::nullopt;
    auto image = read_image(pid, *caller, {"malloc"}, {"malloc"});
    if (!image)
        return std::nullopt;
    uint64_t address = 0;
    // An executable's own goes before all others, though it may call it through a slot too.
    if (auto own = image->symbols.find("malloc"); own != image->symbols.end())
        address = bias + own->second;
    if (auto slot = image->imports.find("malloc"); slot != image->imports.end())
        address = memory.read_value<uint64_t>(bias + slot->second).value_or(address);
    auto holder = std::find_if(mappings.begin(), mappings.end(), [&](const Mapping &mapping) {
        return mapping.start <= address && address < mapping.end;
    });
    if (!address || holder == mappings.end() || !holder->inode)
        return std::nullopt;
    // Until it is called for the first time, a slot may lead back into the module, which asks the dynamic linker.
    bool is_itself = holder->inode == caller->inode && holder->device == caller->device;
    if (is_itself && !image->symbols.contains("malloc"))
        return std::nullopt;
    CAllocator found{std::nullopt, holder->path};
    if (auto allocator = read_image(pid, *holder, marker_symbols(), {}))
        for (const Marker &marker : kMarkers)
            if (!found.name && allocator->symbols.contains(marker.symbol))
                found.name = marker.name;
    return found;
}

}  // namespace memtrace
