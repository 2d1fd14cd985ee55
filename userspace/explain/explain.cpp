// SPDX-License-Identifier: Apache-2.0
#include "explain/explain.h"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <map>
#include <thread>

#include "base/failure.h"
#include "process/frozen_process.h"
#include "process/memory_map.h"

namespace memtrace {

namespace {

// A module's writable mappings, and what the linker put behind them for variables that begin as 0.
std::vector<AddressRange> data_of(const mt_file_id &module, const std::vector<MappedMemory> &memory) {
    std::vector<AddressRange> ranges;
    bool before_is_data = false;
    uint64_t end = 0;
    for (const MappedMemory &part : memory) {
        const Mapping &mapping = part.mapping;
        bool is_writable = mapping.permissions.starts_with("rw");
        bool is_module = mapping.inode == module.inode && mapping.device == module.device;
        bool is_behind = before_is_data && mapping.start == end && !mapping.inode && mapping.path.empty();
        before_is_data = is_writable && (is_module || is_behind);
        end = mapping.end;
        if (before_is_data)
            ranges.push_back({mapping.start, mapping.end});
    }
    return ranges;
}

std::optional<GlibcSnapshot> read_glibc(const ResidentMemory &resident, const std::vector<MappedMemory> &memory) {
    GlibcHints hints;
    mt_file_id library{};
    for (const MappedMemory &part : memory) {
        const Mapping &mapping = part.mapping;
        if (mapping.path == "[heap]")
            hints.heap = {hints.heap.start ? hints.heap.start : mapping.start, mapping.end};
        std::string name = mapping.path.substr(mapping.path.rfind('/') + 1);
        int minor = 0;
        // Until 2.33 the file's name has the version.
        bool is_old = std::sscanf(name.c_str(), "libc-2.%d.so", &minor) == 1;
        if (!library.inode && mapping.inode && (is_old || name.starts_with("libc.so.6"))) {
            library = {mapping.device, mapping.inode};
            hints.links_are_plain = is_old && minor < 32;
        }
    }
    if (!library.inode || !hints.heap.start)
        return std::nullopt;
    return read_glibc_malloc(resident, data_of(library, memory), hints);
}

bool is_shared(const Mapping &mapping) {
    return mapping.permissions.ends_with('s') || mapping.path.starts_with("/dev/shm/") ||
           mapping.path.starts_with("/memfd:") || mapping.path.starts_with("/SYSV") ||
           mapping.path.starts_with("/dev/zero");
}

std::string owner_of(const Mapping &mapping) {
    if (mapping.path == "[heap]")
        return "c_heap_live";
    if (mapping.path == "[stack]")
        return "stack";
    return "anonymous";
}

// Where allocators put what they have from mmap.
std::vector<AddressRange> anonymous_memory(const std::vector<MappedMemory> &memory) {
    std::vector<AddressRange> ranges;
    for (const MappedMemory &part : memory)
        if (part.rss_bytes && !part.mapping.inode && part.mapping.permissions.starts_with("rw-p") &&
            owner_of(part.mapping) == "anonymous")
            ranges.push_back({part.mapping.start, part.mapping.end});
    return ranges;
}

// The owner of the mapping that has this address.
std::string owner_at(uint64_t address, const std::vector<MappedMemory> &memory) {
    auto above = std::upper_bound(memory.begin(), memory.end(), address,
                                  [](uint64_t at, const MappedMemory &m) { return at < m.mapping.start; });
    return owner_of(above == memory.begin() ? Mapping{} : std::prev(above)->mapping);
}

void add_pymalloc(const PymallocSnapshot &pymalloc, const std::vector<MappedMemory> &memory,
                  std::map<std::string, int64_t> &layers) {
    layers["pymalloc_live"] += static_cast<int64_t>(pymalloc.resident.live);
    layers["pymalloc_free_blocks"] += static_cast<int64_t>(pymalloc.resident.free_blocks);
    layers["pymalloc_free_pools"] += static_cast<int64_t>(pymalloc.resident.free_pools);
    layers["pymalloc_headers"] += static_cast<int64_t>(pymalloc.resident.headers);
    for (const Arena &arena : pymalloc.arenas)
        layers[owner_at(arena.address, memory)] -= static_cast<int64_t>(arena.resident_bytes);
}

void add_mimalloc(const MimallocSnapshot &mimalloc, const std::vector<MappedMemory> &memory,
                  std::map<std::string, int64_t> &layers) {
    layers["mimalloc_live"] += static_cast<int64_t>(mimalloc.resident.live);
    layers["mimalloc_free"] += static_cast<int64_t>(mimalloc.resident.free);
    layers["mimalloc_headers"] += static_cast<int64_t>(mimalloc.resident.headers);
    for (const MimallocSegment &segment : mimalloc.segments)
        layers[owner_at(segment.address, memory)] -= static_cast<int64_t>(segment.resident_bytes);
}

void add_glibc(const GlibcSnapshot &glibc, const std::vector<MappedMemory> &memory,
               std::map<std::string, int64_t> &layers) {
    for (const GlibcArena &arena : glibc.arenas) {
        const GlibcResident &resident = arena.resident;
        if (!arena.heaps.empty())
            layers[owner_at(arena.heaps[0].start, memory)] -=
                static_cast<int64_t>(resident.live + resident.free + resident.top);
        layers["c_heap_live"] += static_cast<int64_t>(resident.live);
        layers["c_heap_free"] += static_cast<int64_t>(resident.free);
        layers["c_heap_top"] += static_cast<int64_t>(resident.top);
    }
}

std::vector<MappedMemory> read_mappings_of(int pid) {
    auto memory = read_memory_map(pid);
    if (!memory)
        fail("process {} is not ours to look into: {}", pid, strerror(errno));
    return std::move(*memory);
}

// Its mappings, and what its allocators say. `place` may have been found before: it takes longest.
std::vector<MappedMemory> read_process(Explanation &explanation, std::optional<PymallocPlace> place) {
    const FoundPython &python = explanation.python;
    std::vector<MappedMemory> memory = read_mappings_of(explanation.pid);
    std::vector<AddressRange> data = data_of(python.file, memory);
    ResidentMemory resident(explanation.pid);
    if (!place || !update_pymalloc(resident, data, *place))
        place = find_pymalloc(resident, data);
    explanation.pymalloc.reset();
    if (place)
        explanation.pymalloc = read_pymalloc(resident, *place);
    if (python.version.minor >= 13)
        explanation.mimalloc = read_mimalloc(resident, data, anonymous_memory(memory));
    explanation.glibc = read_glibc(resident, memory);
    return memory;
}

bool is_contradictory(const Explanation &explanation) {
    const auto &pymalloc = explanation.pymalloc;
    const auto &mimalloc = explanation.mimalloc;
    const auto &glibc = explanation.glibc;
    return (pymalloc && pymalloc->torn_pools) || (mimalloc && mimalloc->torn_segments + mimalloc->torn_pages) ||
           (glibc && !glibc->complete);
}

// Of a process that stands still: each time a thread may be stopped in the middle of an allocation, in which case
// letting it go on for a moment helps. Of one that allocates all the time, one snapshot in four was such.
constexpr int kPauses = 5;
constexpr std::chrono::milliseconds kBetweenPauses{10};  // long enough for the thread to run

}  // namespace

Explanation explain(int pid, const FoundPython &python, bool freeze) {
    auto started = std::chrono::steady_clock::now();
    Explanation explanation;
    explanation.pid = pid;
    explanation.identity = read_identity(pid);
    explanation.python = python;
    std::vector<MappedMemory> memory;
    if (!freeze) {
        memory = read_process(explanation, std::nullopt);
    } else {
        // While it allocates, it may take some attempts to find what agrees; if none does, it is found while paused.
        std::optional<PymallocPlace> place;
        for (int attempt = 0; attempt < kPauses && !place; attempt++)
            place = find_pymalloc(ResidentMemory(pid), data_of(python.file, read_mappings_of(pid)));
        for (int pause = 0; pause < kPauses && (pause == 0 || is_contradictory(explanation)); pause++) {
            if (pause)
                std::this_thread::sleep_for(kBetweenPauses);
            FrozenProcess frozen(pid);
            memory = read_process(explanation, place);
            explanation.frozen_ns = explanation.frozen_ns.value_or(0) + frozen.release();
        }
    }
    std::vector<Mapping> mappings;
    for (const MappedMemory &part : memory)
        mappings.push_back(part.mapping);
    explanation.c_allocator = find_c_allocator(pid, mappings, python.file, python.bias, ResidentMemory(pid));

    std::map<std::string, int64_t> layers;
    for (const MappedMemory &part : memory) {
        explanation.rss_bytes += part.rss_bytes;
        if (is_shared(part.mapping)) {
            layers["shared_memory"] += part.rss_bytes;
        } else if (part.mapping.inode) {
            layers["file_mappings"] += part.rss_bytes - part.anonymous_bytes;
            layers["file_private"] += part.anonymous_bytes;
        } else {
            layers[owner_of(part.mapping)] += part.rss_bytes;
        }
    }
    if (explanation.pymalloc)
        add_pymalloc(*explanation.pymalloc, memory, layers);
    if (explanation.mimalloc)
        add_mimalloc(*explanation.mimalloc, memory, layers);
    if (explanation.glibc)
        add_glibc(*explanation.glibc, memory, layers);
    // What is in use of another allocator's heap is not known.
    if (!explanation.glibc) {
        layers["anonymous"] += layers["c_heap_live"];
        layers.erase("c_heap_live");
    }
    for (const auto &[owner, bytes] : layers)
        explanation.layers.push_back({owner, bytes});
    std::stable_sort(explanation.layers.begin(), explanation.layers.end(),
                     [](const Layer &a, const Layer &b) { return a.resident_bytes > b.resident_bytes; });
    explanation.duration_ns = static_cast<uint64_t>(
        std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now() - started).count());
    return explanation;
}

}  // namespace memtrace
