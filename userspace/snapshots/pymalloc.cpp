// SPDX-License-Identifier: Apache-2.0
#include "snapshots/pymalloc.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <bitset>
#include <cstring>
#include <functional>
#include <set>

namespace memtrace {

namespace {

constexpr uint32_t kMaxArenaSlots = 1 << 22;  // 1 TiB in arenas of 256 KiB
constexpr uint32_t kMaxArenaBytes = 2 << 20;  // with huge pages, 3.15
constexpr uint32_t kMaxPoolBytes = 16384;
constexpr uint32_t kMinBlockBytes = 8;
constexpr uint32_t kPoolHeaderBytes = 48;  // sizeof(struct pool_header), rounded up: 2.7 to 3.15
constexpr uint32_t kStatePointers = 64;    // of usedpools; struct _obmalloc_state goes on with arenas, 3.12 and later
constexpr int kPoolReads = 4;              // of a pool that contradicts itself

// struct pool_header, Objects/obmalloc.c; the same from 2.7 to 3.15.
struct PoolHeader {
    uint32_t live_blocks;  // ref.count
    uint32_t zero;
    uint64_t free_block;
    uint64_t next_pool;
    uint64_t previous_pool;
    uint32_t arena;  // arenaindex
    uint32_t size_class;
    uint32_t next_offset;  // of the first block that was never used
    uint32_t last_offset;  // maxnextoffset
};
static_assert(sizeof(PoolHeader) == kPoolHeaderBytes);

// struct arena_object; the same from 2.7 to 3.15.
struct ArenaObject {
    uint64_t address;
    uint64_t next_pool;  // pool_address: the first that was never used
    uint32_t free_pools;
    uint32_t pools;
    uint64_t freed_pools;
    uint64_t next_arena;
    uint64_t previous_arena;
};
static_assert(sizeof(ArenaObject) == 48);

// Of the least size that one has, whatever the machine's pages are.
bool may_be_pool(uint64_t address) {
    return may_be_address(address) && address % 4096 == 0;
}

uint32_t block_bytes(uint32_t size_class, uint32_t alignment) {
    return (size_class + 1) * alignment;
}

struct UsedPool {
    uint64_t address;
    uint32_t arena;  // index in arenas
};

// usedpools at `words`, address `at`, if what its pools say agrees. Gives the pools that it found in use.
std::optional<PymallocPlace> confirm_used_pools(Guesses &memory, uint64_t at, const uint64_t *words, uint32_t classes,
                                                std::vector<UsedPool> &pools) {
    PymallocPlace place;
    place.used_pools = at;
    place.alignment = 512 / classes;
    pools.clear();
    for (uint32_t i = 0; i < classes; i++) {
        uint64_t self = at + 16 * i - 16, first = words[2 * i], last = words[2 * i + 1];
        if (first == self && last == self)
            continue;
        auto front = memory.read<PoolHeader>(first), back = memory.read<PoolHeader>(last);
        if (!front || !back || front->previous_pool != self || back->next_pool != self || front->size_class != i ||
            back->size_class != i)
            return std::nullopt;
        // POOL_SIZE, which the last offset that fits a block gives away.
        uint32_t size = front->last_offset + block_bytes(i, place.alignment);
        if ((size != 4096 && size != 16384) || (place.pool_bytes && size != place.pool_bytes) || first % size)
            return std::nullopt;
        place.pool_bytes = size;
        pools.push_back({first, front->arena});
    }
    if (pools.empty())
        return std::nullopt;
    return place;
}

bool is_arena(const ArenaObject &arena, uint32_t pool_bytes) {
    return may_be_pool(arena.address) && arena.pools && arena.pools <= kMaxArenaBytes / pool_bytes &&
           arena.free_pools <= arena.pools && arena.next_pool >= arena.address &&
           arena.next_pool - arena.address <= kMaxArenaBytes;
}

// Pools are aligned to their size; an arena need not be.
uint64_t first_pool(const ArenaObject &arena, uint32_t pool_bytes) {
    return (arena.address + pool_bytes - 1) / pool_bytes * pool_bytes;
}

// Whether each of these pools lies in the arena that it names. Gives the arenas' size.
uint32_t confirm_arenas(Guesses &memory, uint64_t arenas, uint32_t pool_bytes, const std::vector<UsedPool> &pools) {
    uint32_t arena_bytes = 0;
    for (auto [pool, index] : pools) {
        auto arena = memory.read<ArenaObject>(arenas + uint64_t{index} * sizeof(ArenaObject));
        if (!arena || !is_arena(*arena, pool_bytes))
            return 0;
        // An arena that does not begin on a pool's boundary has room for one less.
        uint32_t size = (arena->pools + (arena->address % pool_bytes != 0)) * pool_bytes;
        if (pool < arena->address || pool >= arena->address + size || (arena_bytes && size != arena_bytes))
            return 0;
        arena_bytes = size;
    }
    return arena_bytes;
}

// The array doubles from 16. Before 3.12 its length cannot be told from its neighbours, so: as far as its entries are
// empty, or arenas whose first pool has their number, and up to the last of these. Arenas that are used again may leave
// a whole part of it empty.
uint32_t count_arena_slots(const ResidentMemory &memory, const PymallocPlace &place) {
    uint32_t slots = 0, seen = 0;
    for (uint32_t length = 16; length <= kMaxArenaSlots; length *= 2) {
        std::vector<ArenaObject> entries(length - seen);
        if (!memory.read(place.arenas + uint64_t{seen} * sizeof(ArenaObject), entries.data(),
                         entries.size() * sizeof(ArenaObject)))
            break;
        bool good = true, any = false;
        for (uint32_t i = 0; good && i < entries.size(); i++) {
            const ArenaObject &arena = entries[i];
            if (!arena.address)
                continue;
            any = true;
            uint64_t first = first_pool(arena, place.pool_bytes);
            good = is_arena(arena, place.pool_bytes);
            if (good && arena.next_pool > first) {
                auto header = memory.read_value<PoolHeader>(first);
                good = header && header->arena == seen + i;
            }
        }
        if (!good)
            break;
        seen = length;
        if (any)
            slots = length;
    }
    return slots;
}

bool find_arenas(const ResidentMemory &memory, Guesses &guesses, const std::vector<DataCopy> &all,
                 const uint64_t *words, size_t left, const std::vector<UsedPool> &pools, PymallocPlace &place) {
    auto confirm = [&](uint64_t arenas) {
        place.arenas = arenas;
        return (place.arena_bytes = confirm_arenas(guesses, arenas, place.pool_bytes, pools)) != 0;
    };
    // struct _obmalloc_state, 3.12 and later: usedpools, arenas, maxarenas.
    if (left > kStatePointers + 1 && words[kStatePointers] % 8 == 0 && confirm(words[kStatePointers])) {
        place.arena_slots = std::min(static_cast<uint32_t>(words[kStatePointers + 1]), kMaxArenaSlots);
        return true;
    }
    for (const DataCopy &data : all) {
        for (uint64_t word : data.words) {
            if (!may_be_address(word) || word % 16 || !confirm(word))
                continue;
            place.arena_slots = count_arena_slots(memory, place);
            if (place.arena_slots)
                return true;
        }
    }
    return false;
}

// Whether the parts of a pool agree, and the offsets of its live blocks. `bytes` are a copy of it, perhaps without its
// end.
bool find_live_blocks(std::span<const uint8_t> bytes, uint64_t address, const PymallocPlace &place,
                      const PoolHeader &header, std::vector<uint32_t> &live) {
    live.clear();
    if (header.size_class >= place.classes())
        return false;
    uint32_t size = block_bytes(header.size_class, place.alignment);
    if (header.next_offset < kPoolHeaderBytes || (header.next_offset - kPoolHeaderBytes) % size ||
        header.next_offset > place.pool_bytes || header.last_offset != place.pool_bytes - size)
        return false;
    uint64_t carved = (header.next_offset - kPoolHeaderBytes) / size;
    if (header.live_blocks > carved)
        return false;
    // The chain of freed blocks: each holds the next one's address. 0 ends it.
    std::bitset<kMaxPoolBytes / kMinBlockBytes> is_free;
    for (uint64_t block = header.free_block; block;) {
        uint64_t at = block - address;
        if (at < kPoolHeaderBytes || at + sizeof(block) > bytes.size() || (at - kPoolHeaderBytes) % size)
            return false;
        size_t index = (at - kPoolHeaderBytes) / size;
        if (index >= carved || is_free[index])
            return false;
        is_free[index] = true;
        std::memcpy(&block, bytes.data() + at, sizeof(block));
    }
    for (uint32_t index = 0; index < carved; index++)
        if (!is_free[index])
            live.push_back(kPoolHeaderBytes + index * size);
    return live.size() == header.live_blocks;
}

class PymallocReader {
  public:
    PymallocReader(const ResidentMemory &memory, PymallocSnapshot &snapshot, const PoolVisitor &visit)
        : memory_(memory), snapshot_(snapshot), visit_(visit), image_(snapshot.place.arena_bytes) {}

    void read(const ArenaObject &object) {
        const PymallocPlace &place = snapshot_.place;
        if (overlaps(object.address))
            return;
        starts_.insert(object.address);
        auto present = memory_.copy(object.address, object.address + place.arena_bytes, image_.data());
        if (!present)
            return;
        present_ = std::move(*present);
        Arena arena{.address = object.address, .pools = object.pools};
        arena.resident_bytes = static_cast<uint64_t>(std::count(present_.begin(), present_.end(), true)) * page_;
        in_used_pools_ = 0;
        uint64_t pool = first_pool(object, place.pool_bytes), end = object.address + place.arena_bytes;
        for (uint32_t i = 0; i < object.pools && pool < object.next_pool && pool + place.pool_bytes <= end; i++) {
            read_pool(pool, arena);
            pool += place.pool_bytes;
        }
        snapshot_.resident.free_pools += arena.resident_bytes - in_used_pools_;
        arena.resident_free_bytes += arena.resident_bytes - in_used_pools_;
        snapshot_.arenas.push_back(arena);
    }

  private:
    // No honest process has two arenas in one place, and no other shall make us read one for ever.
    bool overlaps(uint64_t start) const {
        auto next = starts_.lower_bound(start);
        uint64_t size = snapshot_.place.arena_bytes;
        return (next != starts_.end() && *next - start < size) ||
               (next != starts_.begin() && start - *std::prev(next) < size);
    }

    // The pages in memory that follow one another from this one on.
    size_t count_present(size_t page) const {
        auto begin = present_.begin() + static_cast<ptrdiff_t>(page);
        return static_cast<size_t>(std::find(begin, present_.end(), false) - begin);
    }

    void read_pool(uint64_t pool, Arena &arena) {
        size_t at = pool - arena.address;
        size_t size = std::min<size_t>(count_present(at / page_) * page_, snapshot_.place.pool_bytes);
        uint8_t *bytes = &image_[at];
        if (!size) {
            snapshot_.absent_pools++;
            return;
        }
        PoolHeader header{};
        bool whole = false;
        for (int attempt = 0; attempt < kPoolReads && !whole; attempt++) {
            if (attempt && !memory_.read(pool, bytes, size))
                break;
            std::memcpy(&header, bytes, sizeof(header));
            if (!header.live_blocks)
                return;  // a free pool
            whole = find_live_blocks({bytes, size}, pool, snapshot_.place, header, live_);
        }
        if (!whole) {
            snapshot_.torn_pools++;
            return;
        }
        SizeClass &sizes = snapshot_.classes[header.size_class];
        uint32_t capacity = (snapshot_.place.pool_bytes - kPoolHeaderBytes) / sizes.block_bytes;
        sizes.pools++;
        sizes.live_blocks += header.live_blocks;
        sizes.free_blocks += capacity - header.live_blocks;
        arena.used_pools++;
        arena.live_blocks += header.live_blocks;
        arena.live_bytes += uint64_t{header.live_blocks} * sizes.block_bytes;
        uint64_t blocks = size - kPoolHeaderBytes;
        uint64_t live = std::min(blocks, uint64_t{header.live_blocks} * sizes.block_bytes);
        snapshot_.resident.live += live;
        snapshot_.resident.free_blocks += blocks - live;
        snapshot_.resident.headers += kPoolHeaderBytes;
        in_used_pools_ += size;
        arena.resident_free_bytes += blocks - live;
        if (visit_)
            visit_({pool, snapshot_.arenas.size(), sizes.block_bytes, {bytes, size}, live_});
    }

    const ResidentMemory &memory_;
    PymallocSnapshot &snapshot_;
    const PoolVisitor &visit_;
    const uint64_t page_ = static_cast<uint64_t>(getpagesize());
    std::vector<uint8_t> image_;  // of an arena
    std::vector<bool> present_;   // its pages
    std::set<uint64_t> starts_;   // of arenas
    std::vector<uint32_t> live_;  // of a pool
    uint64_t in_used_pools_ = 0;  // resident bytes of an arena
};

template <typename Visit>
void for_each_arena(const ResidentMemory &memory, const PymallocPlace &place, Visit visit) {
    std::array<ArenaObject, 256> objects;
    for (size_t index = 0; index < place.arena_slots; index += objects.size()) {
        size_t count = std::min<size_t>(objects.size(), place.arena_slots - index);
        if (!memory.read(place.arenas + index * sizeof(ArenaObject), objects.data(), count * sizeof(ArenaObject)))
            break;
        for (const ArenaObject &object : std::span(objects).first(count))
            if (object.address && is_arena(object, place.pool_bytes))
                visit(object);
    }
}

}  // namespace

uint64_t PymallocSnapshot::used_pools() const {
    return add_up(arenas, &Arena::used_pools);
}

uint64_t PymallocSnapshot::free_pools() const {
    return add_up(arenas, &Arena::pools) - used_pools() - torn_pools - absent_pools;
}

uint64_t PymallocSnapshot::live_bytes() const {
    return add_up(classes, [](const SizeClass &c) { return c.live_blocks * c.block_bytes; });
}

uint64_t PymallocSnapshot::free_block_bytes() const {
    return add_up(classes, [](const SizeClass &c) { return c.free_blocks * c.block_bytes; });
}

uint64_t PymallocSnapshot::pool_header_bytes() const {
    return used_pools() * kPoolHeaderBytes;
}

uint64_t PymallocSnapshot::quantization_bytes() const {
    return add_up(classes, [this](const SizeClass &c) {
        return c.pools * ((place.pool_bytes - kPoolHeaderBytes) % c.block_bytes);
    });
}

std::optional<PymallocPlace> find_pymalloc(const ResidentMemory &memory, std::span<const AddressRange> ranges) {
    std::vector<DataCopy> all = copy_data(memory, ranges);
    Guesses guesses(memory);
    std::vector<UsedPool> pools;
    std::optional<PymallocPlace> place;
    for (const DataCopy &data : all) {
        for (uint32_t classes : {64u, 32u}) {
            auto confirm = [&](size_t word) {
                const uint64_t *words = &data.words[word];
                place = confirm_used_pools(guesses, data.address_of(word), words, classes, pools);
                return place && find_arenas(memory, guesses, all, words, data.words.size() - word, pools, *place);
            };
            if (find_list_heads(data, classes, may_be_pool, confirm))
                return place;
        }
    }
    return std::nullopt;
}

bool update_pymalloc(const ResidentMemory &memory, std::span<const AddressRange> data, PymallocPlace &place) {
    auto behind = memory.read_value<std::array<uint64_t, 2>>(place.used_pools + kStatePointers * sizeof(uint64_t));
    if (behind && (*behind)[0] == place.arenas) {
        place.arena_slots = std::min(static_cast<uint32_t>((*behind)[1]), kMaxArenaSlots);
        return true;
    }
    std::vector<DataCopy> all = copy_data(memory, data);
    bool is_there = std::any_of(all.begin(), all.end(), [&](const DataCopy &copy) {
        return std::find(copy.words.begin(), copy.words.end(), place.arenas) != copy.words.end();
    });
    place.arena_slots = is_there ? count_arena_slots(memory, place) : 0;
    return place.arena_slots != 0;
}

std::optional<uint32_t> block_bytes_at(const RemoteMemory &memory, const PymallocPlace &place, uint64_t address) {
    auto header = memory.read_value<PoolHeader>(address / place.pool_bytes * place.pool_bytes);
    if (!header || header->size_class >= place.classes())
        return std::nullopt;
    return block_bytes(header->size_class, place.alignment);
}

std::vector<uint64_t> arena_addresses(const ResidentMemory &memory, const PymallocPlace &place) {
    std::vector<uint64_t> addresses;
    for_each_arena(memory, place, [&](const ArenaObject &object) { addresses.push_back(object.address); });
    std::sort(addresses.begin(), addresses.end());
    return addresses;
}

PymallocSnapshot read_pymalloc(const ResidentMemory &memory, const PymallocPlace &place, const PoolVisitor &visit) {
    PymallocSnapshot snapshot;
    snapshot.place = place;
    for (uint32_t i = 0; i < place.classes(); i++)
        snapshot.classes.push_back({block_bytes(i, place.alignment), 0, 0, 0});
    PymallocReader reader(memory, snapshot, visit);
    for_each_arena(memory, place, [&](const ArenaObject &object) { reader.read(object); });
    return snapshot;
}

}  // namespace memtrace
