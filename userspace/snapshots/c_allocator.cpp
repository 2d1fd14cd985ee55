// SPDX-License-Identifier: Apache-2.0
#include "snapshots/c_allocator.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <set>
#include <utility>

#include "process/elf_image.h"
#include "process/regular_file.h"
#include "process/sandbox.h"

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

// In a sandbox: which of them the file exports.
std::string find_marker(FileDescriptor file) {
    std::set<std::string> symbols;
    for (const Marker &marker : kMarkers)
        symbols.insert(marker.symbol);
    auto image = read_elf_image(std::move(file), symbols);
    for (const Marker &marker : kMarkers)
        if (image && image->symbols.contains(marker.symbol))
            return marker.name;
    return "";
}

// Where a module has malloc: its own, and the slot in which the dynamic linker puts the address of what it calls. 0:
// nowhere.
struct MallocPlaces {
    uint64_t own = 0;
    uint64_t slot = 0;
};

// In a sandbox; empty when it is no module.
std::string find_malloc(FileDescriptor file) {
    auto image = read_elf_image(std::move(file), {"malloc"}, {"malloc"});
    if (!image)
        return "";
    MallocPlaces places;
    if (auto own = image->symbols.find("malloc"); own != image->symbols.end())
        places.own = own->second;
    if (auto slot = image->imports.find("malloc"); slot != image->imports.end())
        places.slot = slot->second;
    return {reinterpret_cast<const char *>(&places), sizeof(places)};
}

// Asks `look` about the file that this mapping is of, whatever happened to its name.
template <typename Look>
std::string look_into(int pid, const Mapping &mapping, Look look) {
    auto answer = ask_sandbox(pid, {}, [&] {
        auto file = std::make_shared<FileDescriptor>(open_regular_file(mapping.map_file(pid)));
        return [file, look] { return look(std::move(*file)); };
    });
    return answer.value_or("");
}

}  // namespace

std::optional<CAllocator> find_c_allocator(int pid, const std::vector<Mapping> &mappings, const mt_file_id &module,
                                           uint64_t bias, const RemoteMemory &memory) {
    auto caller = std::find_if(mappings.begin(), mappings.end(), [&](const Mapping &mapping) {
        return mapping.inode == module.inode && mapping.device == module.device;
    });
    if (caller == mappings.end())
        return std::nullopt;
    std::string answer = look_into(pid, *caller, find_malloc);
    MallocPlaces places;
    if (answer.size() != sizeof(places))
        return std::nullopt;
    std::memcpy(&places, answer.data(), sizeof(places));
    // An executable's own goes before all others, though it may call it through a slot too.
    uint64_t address = places.own ? bias + places.own : 0;
    if (places.slot)
        address = memory.read_value<uint64_t>(bias + places.slot).value_or(address);
    auto holder = std::find_if(mappings.begin(), mappings.end(), [&](const Mapping &mapping) {
        return mapping.start <= address && address < mapping.end;
    });
    if (!address || holder == mappings.end() || !holder->inode)
        return std::nullopt;
    // Until it is called for the first time, a slot may lead back into the module, which asks the dynamic linker.
    bool is_itself = holder->inode == caller->inode && holder->device == caller->device;
    if (is_itself && !places.own)
        return std::nullopt;
    CAllocator found{std::nullopt, holder->path()};
    if (std::string name = look_into(pid, *holder, find_marker); !name.empty())
        found.name = name;
    return found;
}

}  // namespace memtrace
