// SPDX-License-Identifier: Apache-2.0
#include "explain/explain.h"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <map>

#include "base/failure.h"
#include "process/memory_map.h"

namespace memtrace {

namespace {

// The module's writable mappings, and what the linker put behind them for variables that begin as 0.
std::vector<AddressRange> data_of(const FoundPython &python, const std::vector<MappedMemory> &memory) {
    std::vector<AddressRange> ranges;
    bool before_is_data = false;
    uint64_t end = 0;
    for (const MappedMemory &part : memory) {
        const Mapping &mapping = part.mapping;
        bool is_writable = mapping.permissions.starts_with("rw");
        bool is_module = mapping.inode == python.file.inode && mapping.device == python.file.device;
        bool is_behind = before_is_data && mapping.start == end && !mapping.inode && mapping.path.empty();
        before_is_data = is_writable && (is_module || is_behind);
        end = mapping.end;
        if (before_is_data)
            ranges.push_back({mapping.start, mapping.end});
    }
    return ranges;
}

bool is_shared(const Mapping &mapping) {
    return mapping.permissions.ends_with('s') || mapping.path.starts_with("/dev/shm/") ||
           mapping.path.starts_with("/memfd:") || mapping.path.starts_with("/SYSV") ||
           mapping.path.starts_with("/dev/zero");
}

std::string owner_of(const Mapping &mapping) {
    if (mapping.path == "[heap]")
        return "c_heap";
    if (mapping.path == "[stack]")
        return "stack";
    return "anonymous";
}

void add_pymalloc(const PymallocSnapshot &pymalloc, const std::vector<MappedMemory> &memory,
                  std::map<std::string, int64_t> &layers) {
    layers["pymalloc_live"] += static_cast<int64_t>(pymalloc.resident.live);
    layers["pymalloc_free_blocks"] += static_cast<int64_t>(pymalloc.resident.free_blocks);
    layers["pymalloc_free_pools"] += static_cast<int64_t>(pymalloc.resident.free_pools);
    layers["pymalloc_headers"] += static_cast<int64_t>(pymalloc.resident.headers);
    for (const Arena &arena : pymalloc.arenas) {
        auto above = std::upper_bound(memory.begin(), memory.end(), arena.address,
                                      [](uint64_t at, const MappedMemory &m) { return at < m.mapping.start; });
        if (above != memory.begin())
            layers[owner_of(std::prev(above)->mapping)] -= static_cast<int64_t>(arena.resident_bytes);
    }
}

}  // namespace

Explanation explain(int pid, const FoundPython &python) {
    auto started = std::chrono::steady_clock::now();
    Explanation explanation;
    explanation.pid = pid;
    explanation.identity = read_identity(pid);
    explanation.python = python;
    auto memory = read_memory_map(pid);
    if (!memory)
        fail("process {} is not ours to look into: {}", pid, strerror(errno));
    ResidentMemory resident(pid);
    if (auto place = find_pymalloc(resident, data_of(python, *memory)))
        explanation.pymalloc = read_pymalloc(resident, *place);

    std::map<std::string, int64_t> layers;
    for (const MappedMemory &part : *memory) {
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
        add_pymalloc(*explanation.pymalloc, *memory, layers);
    for (const auto &[owner, bytes] : layers)
        explanation.layers.push_back({owner, bytes});
    std::stable_sort(explanation.layers.begin(), explanation.layers.end(),
                     [](const Layer &a, const Layer &b) { return a.resident_bytes > b.resident_bytes; });
    explanation.duration_ns = static_cast<uint64_t>(
        std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now() - started).count());
    return explanation;
}

}  // namespace memtrace
