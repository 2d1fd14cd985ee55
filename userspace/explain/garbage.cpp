// SPDX-License-Identifier: Apache-2.0
#include "explain/garbage.h"

#include <algorithm>
#include <bit>
#include <map>

#include "explain/references.h"

namespace memtrace {

namespace {

constexpr uint64_t kMaxReferences = 1 << 28;  // that are read

// Objects by their address.
class Index {
  public:
    explicit Index(std::span<const CollectedObject> objects)
        : objects_(objects), slots_(std::bit_ceil(2 * objects.size() + 1), kNone) {
        for (uint32_t i = 0; i < objects.size(); i++) {
            size_t slot = first_slot(objects[i].address);
            while (slots_[slot] != kNone)
                slot = (slot + 1) % slots_.size();
            slots_[slot] = i;
        }
    }

    static constexpr uint32_t kNone = UINT32_MAX;

    uint32_t find(uint64_t address) const {
        size_t slot = first_slot(address);
        while (slots_[slot] != kNone && objects_[slots_[slot]].address != address)
            slot = (slot + 1) % slots_.size();
        return slots_[slot];
    }

  private:
    size_t first_slot(uint64_t address) const {
        return (address / 16 * 0x9e3779b97f4a7c15ull >> 20) % slots_.size();
    }

    std::span<const CollectedObject> objects_;
    std::vector<uint32_t> slots_;
};

}  // namespace

std::optional<Garbage> find_garbage(const ResidentMemory &memory, const PythonVersion &version, const TypeTable &types,
                                    std::span<const CollectedObject> objects, const PymallocSnapshot &pymalloc) {
    CachedMemory cached(memory);
    Index index(objects);
    std::vector<uint64_t> blocks;
    uint64_t references = kMaxReferences;
    auto read = [&](const CollectedObject &object, const std::function<void(uint64_t)> &visit) {
        blocks.clear();
        return read_references(cached, version, types.types()[object.type], object.address, visit, blocks, references);
    };
    std::vector<int64_t> left(objects.size());
    std::vector<bool> is_known(objects.size());
    for (size_t i = 0; i < objects.size(); i++) {
        left[i] += objects[i].references;
        is_known[i] = read(objects[i], [&](uint64_t address) {
            if (uint32_t referred = index.find(address); referred != Index::kNone)
                left[referred]--;
        });
    }
    // What is referred to from elsewhere, and what that refers to.
    std::vector<bool> is_alive(objects.size());
    std::vector<uint32_t> found;
    auto reach = [&](uint32_t object) {
        if (object == Index::kNone || is_alive[object])
            return;
        is_alive[object] = true;
        found.push_back(object);
    };
    for (uint32_t i = 0; i < objects.size(); i++)
        if (left[i] > 0 || !is_known[i])
            reach(i);
    while (!found.empty()) {
        uint32_t object = found.back();
        found.pop_back();
        // One that could be read in part only is followed as far as then. What cannot be reached now from one that
        // could be read whole would be taken for garbage.
        if (!read(objects[object], [&](uint64_t address) { reach(index.find(address)); }) && is_known[object])
            return std::nullopt;
    }
    if (!references)
        return std::nullopt;

    Garbage garbage;
    std::map<std::string, TypeCount> by_type;
    std::map<uint64_t, size_t> arena_at;
    std::map<size_t, uint64_t> dead;  // blocks, by arena
    for (size_t i = 0; i < pymalloc.arenas.size(); i++)
        arena_at[pymalloc.arenas[i].address] = i;
    // A block's size, which its pool tells, or its chunk's header.
    auto die = [&](uint64_t block) -> uint64_t {
        auto above = arena_at.upper_bound(block);
        if (above == arena_at.begin() || block - std::prev(above)->first >= pymalloc.place.arena_bytes)
            return cached.read_value<uint64_t>(block - 8).value_or(0) & ~uint64_t{7};
        dead[std::prev(above)->second]++;
        return block_bytes_at(cached, pymalloc.place, block).value_or(0);
    };
    for (size_t i = 0; i < objects.size(); i++) {
        if (is_alive[i])
            continue;
        TypeCount &type = by_type[types.types()[objects[i].type].name];
        garbage.objects++;
        type.objects++;
        type.bytes += die(objects[i].address - types.types()[objects[i].type].object_at);
        if (read(objects[i], [](uint64_t) {}))
            for (uint64_t block : blocks)
                type.buffer_bytes += die(block);
    }
    for (auto [arena, count] : dead) {
        if (count < pymalloc.arenas[arena].live_blocks)
            continue;
        garbage.arenas++;
        garbage.arena_bytes += pymalloc.arenas[arena].resident_bytes;
    }
    for (auto &[name, count] : by_type) {
        count.type = name;
        garbage.bytes += count.bytes + count.buffer_bytes;
        garbage.types.push_back(count);
    }
    std::sort(garbage.types.begin(), garbage.types.end(),
              [](const TypeCount &a, const TypeCount &b) { return a.bytes > b.bytes; });
    return garbage;
}

}  // namespace memtrace
