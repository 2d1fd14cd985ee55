// SPDX-License-Identifier: Apache-2.0
#include "explain/census.h"

#include <algorithm>
#include <array>

namespace memtrace {

namespace {

constexpr uint64_t kLargestSmall = 512;  // SMALL_REQUEST_THRESHOLD: pymalloc has no larger blocks
constexpr size_t kMaxLarge = 1 << 20;    // 64 MiB of ours
constexpr size_t kMaxOwners = 1 << 20;
constexpr size_t kMaxObjectMappings = 1 << 16;  // vm.max_map_count
constexpr size_t kMaxPinAddresses = 8;    // of an arena
constexpr size_t kMaxPinned = 1 << 16;    // arenas
constexpr size_t kMaxSizes = 4096;
constexpr size_t kMaxCollected = 1 << 21;  // 32 MiB of ours, and as much again for garbage

}  // namespace

// Asked for each block.
bool CensusTaker::has_room(Detail detail) {
    constexpr uint32_t kAskAgain = 1024;
    Room &room = room_[detail];
    if (room.asked++ % kAskAgain == 0)
        room.is_there = MemoryBudget::instance().allows(detail);
    return room.is_there;
}

CensusTaker::Count &CensusTaker::count(uint32_t type) {
    if (type >= counts_.size())
        counts_.resize(types_.types().size());
    return counts_[type];
}

// A buffer that is not filled may begin with what was left by an object that had its place.
void CensusTaker::own_small(uint64_t address) {
    BlockMarks::Part marks = marks_.from(address);
    marks.set_buffer(0);
    if (!marks.is_object(0))
        return;
    marks.set_object(0, false);
    auto bytes = block_bytes_at(memory_, place_, address);
    std::array<uint8_t, 48> beginning;
    size_t size = std::min<size_t>(beginning.size(), bytes.value_or(0));
    auto object = memory_.read(address, beginning.data(), size) ? types_.identify(std::span(beginning).first(size))
                                                                : std::nullopt;
    if (!object)
        return;
    census_.small_buffers.blocks++;
    census_.small_buffers.bytes += *bytes;
    if (object->is_kept) {
        census_.kept_objects.blocks--;
        census_.kept_objects.bytes -= *bytes;
    } else {
        Count &wrong = count(object->type);
        wrong.objects -= std::min<uint64_t>(wrong.objects, 1);
        wrong.bytes -= std::min<uint64_t>(wrong.bytes, *bytes);
    }
}

// Whether its block is known.
bool CensusTaker::own(uint32_t type, uint64_t address) {
    own_small(address);
    auto found = large_.find(address);
    if (found == large_.end())
        return marks_.is_in_arena(address);
    if (found->second.is_owned)
        return true;
    LargeBlock &block = found->second;
    block.is_owned = true;
    block.owner = type;
    count(type).buffer_bytes += block.resident_bytes;
    (block.is_mapped ? census_.mapped_objects : census_.heap_objects) += block.resident_bytes;
    return true;
}

std::vector<uint64_t> CensusTaker::buffers_elsewhere() const {
    std::vector<uint64_t> addresses;
    for (auto [address, type] : owners_)
        if (!large_.contains(address) && !marks_.is_in_arena(address))
            addresses.push_back(address);
    return addresses;
}

// struct _intblock, Python 2's Objects/intobject.c, and _floatblock: a link, and 41 numbers. A number that is free has
// the address of the next one where its type would be.
bool CensusTaker::add_number_block(const LiveChunk &chunk) {
    constexpr size_t kNumbers = 41, kNumberBytes = 24, kBlockBytes = 8 + kNumbers * kNumberBytes;
    // A chunk may be 16 bytes larger than was asked for.
    if (version_.major != 2 || chunk.chunk.bytes < kBlockBytes ||
        chunk.chunk.bytes - kBlockBytes > 2 * kChunkHeaderBytes || chunk.bytes.size() < kBlockBytes)
        return false;
    uint64_t alive = 0;
    for (size_t at = 8; at < kBlockBytes; at += kNumberBytes) {
        uint64_t type = word_at(chunk.bytes, at + 8);
        if (type && (!may_be_address(type) || type % 8))
            return false;
        auto object = types_.identify(chunk.bytes.subspan(at, kNumberBytes));
        if (!object || object->is_kept)
            continue;
        Count &number = count(object->type);
        number.objects++;
        number.bytes += kNumberBytes;
        alive++;
    }
    census_.number_blocks.blocks++;
    census_.number_blocks.bytes += chunk.resident_bytes;
    census_.numbers_alive += alive;
    census_.number_slots += kNumbers;
    return true;
}

void CensusTaker::add_chunk(const LiveChunk &chunk, bool is_mapped) {
    if (add_number_block(chunk))
        return;
    auto object = types_.identify(chunk.bytes);
    // A dead one is what a thread keeps of a freed chunk for the next of its size, or C code of what had its place.
    if (object && !object->is_kept) {
        Count &type = count(object->type);
        type.objects++;
        type.bytes += chunk.chunk.bytes;
        (is_mapped ? census_.mapped_objects : census_.heap_objects) += chunk.resident_bytes;
        add_collected(*object, chunk.chunk.address + kChunkHeaderBytes);
        const PythonType &kind = types_.types()[object->type];
        uint64_t buffer = kind.buffer_at ? word_at(chunk.bytes, kind.object_at + kind.buffer_at) : 0;
        if (buffer)
            add_owner(object->type, buffer);
        add_mapping(object->type, chunk.bytes);
        return;
    }
    bool is_large = chunk.chunk.bytes > kLargestSmall;
    if (is_large && (large_.size() == kMaxLarge || !has_room(Detail::kBlocks)))
        census_.complete = false;
    else if (is_large)
        large_[chunk.chunk.address + kChunkHeaderBytes] = {chunk.chunk.bytes, chunk.resident_bytes, is_mapped, false,
                                                           0};
    census_.native.blocks++;
    census_.native.bytes += chunk.resident_bytes;
    if (census_.native_sizes.size() < kMaxSizes || census_.native_sizes.contains(chunk.chunk.bytes))
        census_.native_sizes[chunk.chunk.bytes]++;
}

void CensusTaker::add_owner(uint32_t type, uint64_t buffer) {
    if (owners_.contains(buffer))
        return;
    if (owners_.size() < kMaxOwners && has_room(Detail::kBlocks))
        owners_.emplace(buffer, type);
    else
        census_.complete = false;
}

void CensusTaker::add_mapping(uint32_t type, std::span<const uint8_t> block) {
    const PythonType &kind = types_.types()[type];
    if (!kind.maps_buffer)
        return;
    uint64_t start = word_at(block, kind.object_at + kind.buffer_at);
    uint64_t bytes = word_at(block, kind.object_at + kind.buffer_at + sizeof(uint64_t));
    if (start && bytes && bytes <= UINT64_MAX - start && mappings_.size() < kMaxObjectMappings)
        mappings_.push_back({type, {start, start + bytes}});
}

void CensusTaker::own_mapping(const ObjectMapping &mapping, int64_t resident_bytes) {
    count(mapping.type).buffer_bytes += static_cast<uint64_t>(resident_bytes);
    census_.object_mappings += static_cast<uint64_t>(resident_bytes);
}

void CensusTaker::add_collected(const IdentifiedObject &object, uint64_t block) {
    const PythonType &type = types_.types()[object.type];
    if (!type.is_collected() || too_many_collected_)
        return;
    if (collected_.size() == kMaxCollected || !has_room(Detail::kCycles)) {
        too_many_collected_ = true;
        collected_ = {};
        return;
    }
    collected_.push_back({block + type.object_at, object.type, object.references});
}

void CensusTaker::finish_arena() {
    if (arena_ != SIZE_MAX && census_.pins.size() < kMaxPinned &&
        static_cast<double>(arena_live_bytes_) < kPinnedShare * place_.arena_bytes) {
        for (uint32_t type = 0; type < counts_.size(); type++)
            if (counts_[type].in_arena)
                pins_.blocks_by_type[types_.types()[type].name] += counts_[type].in_arena;
        if (arena_buffers_)
            pins_.blocks_by_type[""] = arena_buffers_;
        pins_.arena = arena_;
        census_.pins.push_back(std::move(pins_));
    }
    for (Count &type : counts_)
        type.in_arena = 0;
    pins_ = {};
    arena_live_bytes_ = 0;
    arena_buffers_ = 0;
}

void CensusTaker::add_pool(const UsedPoolCopy &pool) {
    if (pool.arena != arena_) {
        finish_arena();
        arena_ = pool.arena;
    }
    BlockMarks::Part marks = marks_.from(pool.address);
    pins_.blocks += pool.live.size();
    arena_live_bytes_ += pool.live.size() * pool.block_bytes;
    for (uint32_t at : pool.live) {
        if (pins_.addresses.size() < kMaxPinAddresses)
            pins_.addresses.push_back(pool.address + at);
        size_t end = std::min<size_t>(at + pool.block_bytes, pool.bytes.size());
        std::span<const uint8_t> block = pool.bytes.subspan(std::min<size_t>(at, end), end - std::min<size_t>(at, end));
        std::optional<IdentifiedObject> object;
        if (!marks.is_buffer(at))
            object = types_.identify(block);
        if (object)
            marks.set_object(at, true);
        if (!object) {
            census_.small_buffers.blocks++;
            census_.small_buffers.bytes += pool.block_bytes;
            arena_buffers_++;
            continue;
        }
        Count &type = count(object->type);
        type.in_arena++;
        if (object->is_kept) {
            census_.kept_objects.blocks++;
            census_.kept_objects.bytes += pool.block_bytes;
            continue;
        }
        type.objects++;
        type.bytes += pool.block_bytes;
        add_collected(*object, pool.address + at);
        const PythonType &kind = types_.types()[object->type];
        uint64_t buffer = kind.buffer_at ? word_at(block, kind.object_at + kind.buffer_at) : 0;
        if (buffer && !own(object->type, buffer))
            add_owner(object->type, buffer);
        add_mapping(object->type, block);
    }
}

Census CensusTaker::finish() {
    finish_arena();
    for (auto [buffer, type] : owners_)
        own(type, buffer);
    for (const auto &[address, block] : large_) {
        if (!block.is_owned)
            continue;
        census_.native.blocks--;
        census_.native.bytes -= block.resident_bytes;
        auto size = census_.native_sizes.find(block.bytes);
        if (size != census_.native_sizes.end() && !--size->second)
            census_.native_sizes.erase(size);
    }
    for (uint32_t type = 0; type < counts_.size(); type++)
        if (counts_[type].objects)
            census_.types.push_back(
                {types_.types()[type].name, counts_[type].objects, counts_[type].bytes, counts_[type].buffer_bytes});
    std::sort(census_.types.begin(), census_.types.end(), [](const TypeCount &a, const TypeCount &b) {
        return a.bytes + a.buffer_bytes > b.bytes + b.buffer_bytes;
    });
    return std::move(census_);
}

std::string CensusTaker::describe(const Chunk &chunk) {
    uint64_t address = chunk.address + kChunkHeaderBytes;
    std::array<uint8_t, 48> beginning{};
    size_t size = std::min<size_t>(beginning.size(), chunk.bytes - kChunkHeaderBytes);
    if (memory_.read(address, beginning.data(), size))
        if (auto object = types_.identify(std::span(beginning).first(size)))
            return "a Python object of type " + types_.types()[object->type].name;
    auto large = large_.find(address);
    if (large != large_.end() && large->second.is_owned)
        return "the buffer of a Python object of type " + types_.types()[large->second.owner].name;
    return "in use by no Python object that was found";
}

}  // namespace memtrace
