// SPDX-License-Identifier: Apache-2.0
#include "explain/address_space.h"

#include <algorithm>
#include <cerrno>
#include <iterator>
#include <utility>

#include "base/failure.h"
#include "process/reading_child.h"

namespace memtrace {

namespace {

MemoryMap read_map(int pid) {
    auto map = read_memory_map(pid);
    if (!map)
        fail("process {} is not ours to look into: {}", pid, ReadingChild::describe(errno));
    return std::move(*map);
}

AddressRange intersect(const AddressRange &range, const Mapping &mapping) {
    return {std::max(range.start, mapping.start), std::min(range.end, mapping.end)};
}

}  // namespace

std::string owner_of(const Mapping &mapping) {
    if (mapping.path() == "[heap]")
        return "c_heap_live";
    if (mapping.path() == "[stack]")
        return "stack";
    return "anonymous";
}

bool is_anonymous(const MappedMemory &part) {
    return part.mapping.permissions().ends_with('p') && !part.mapping.inode && owner_of(part.mapping) == "anonymous";
}

AddressSpace::AddressSpace(int pid, const ResidentMemory &resident) : resident_(resident), map_(read_map(pid)) {}

// Several in a row where the program has split it (mprotect).
AddressRange AddressSpace::heap() const {
    AddressRange heap;
    for (const MappedMemory &part : map_.parts)
        if (part.mapping.path() == "[heap]")
            heap = {heap.start ? heap.start : part.mapping.start, part.mapping.end};
    return heap;
}

std::vector<AddressRange> AddressSpace::data_of(const mt_file_id &module) const {
    std::vector<AddressRange> ranges;
    bool before_is_data = false;
    uint64_t end = 0;
    for (const MappedMemory &part : map_.parts) {
        const Mapping &mapping = part.mapping;
        bool is_writable = mapping.permissions().starts_with("rw");
        bool is_module = mapping.inode == module.inode && mapping.device == module.device;
        bool is_behind = before_is_data && mapping.start == end && !mapping.inode && mapping.path().empty();
        before_is_data = is_writable && (is_module || is_behind);
        end = mapping.end;
        if (before_is_data)
            ranges.push_back({mapping.start, mapping.end});
    }
    return ranges;
}

std::vector<AddressRange> AddressSpace::anonymous() const {
    std::vector<AddressRange> ranges;
    for (const MappedMemory &part : map_.parts)
        if (part.rss_bytes && part.mapping.permissions().starts_with("rw") && is_anonymous(part))
            ranges.push_back({part.mapping.start, part.mapping.end});
    return ranges;
}

std::vector<AddressRange> AddressSpace::joined_anonymous() const {
    std::vector<AddressRange> ranges;
    int64_t rss_bytes = 0;  // of the last one
    for (const MappedMemory &part : map_.parts) {
        if (!is_anonymous(part))
            continue;
        if (!ranges.empty() && ranges.back().end == part.mapping.start) {
            ranges.back().end = part.mapping.end;
        } else {
            if (!ranges.empty() && !rss_bytes)
                ranges.pop_back();
            ranges.push_back({part.mapping.start, part.mapping.end});
            rss_bytes = 0;
        }
        rss_bytes += part.rss_bytes;
    }
    return ranges;
}

AddressSpace::Parts::const_iterator AddressSpace::first_behind(uint64_t address) const {
    return std::upper_bound(map_.parts.begin(), map_.parts.end(), address,
                            [](uint64_t at, const MappedMemory &part) { return at < part.mapping.end; });
}

std::string AddressSpace::owner_at(uint64_t address) const {
    auto above = std::upper_bound(map_.parts.begin(), map_.parts.end(), address,
                                  [](uint64_t at, const MappedMemory &part) { return at < part.mapping.start; });
    return owner_of(above == map_.parts.begin() ? Mapping{} : std::prev(above)->mapping);
}

uint64_t AddressSpace::resident_bytes(const AddressRange &range) {
    uint64_t sum = 0;
    for (auto part = first_behind(range.start); part != map_.parts.end() && part->mapping.start < range.end; ++part) {
        const Mapping &mapping = part->mapping;
        AddressRange both = intersect(range, mapping);
        if (both.start >= both.end || !part->rss_bytes)
            continue;
        uint64_t bytes = both.end - both.start;
        if (bytes == mapping.end - mapping.start) {
            sum += static_cast<uint64_t>(part->rss_bytes);
        } else if (bytes <= parts_left_) {
            parts_left_ -= bytes;
            sum += ResidentRange(resident_, both.start, both.end).bytes(both.start, both.end);
        } else {
            has_left_parts_ = true;
        }
    }
    return sum;
}

int64_t AddressSpace::resident_private_bytes(const AddressRange &range) {
    int64_t sum = 0;
    for (auto part = first_behind(range.start); part != map_.parts.end() && part->mapping.start < range.end; ++part) {
        AddressRange both = intersect(range, part->mapping);
        if (both.start < both.end && part->rss_bytes && is_anonymous(*part))
            sum += std::max<int64_t>(0, static_cast<int64_t>(resident_bytes(both)) - part->lazy_free_bytes);
    }
    return sum;
}

}  // namespace memtrace
