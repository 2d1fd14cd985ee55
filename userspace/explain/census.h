// SPDX-License-Identifier: Apache-2.0
// What is alive in a process's memory: Python objects by type, the larger buffers that they keep elsewhere, and blocks
// that no Python object accounts for.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/memory_budget.h"
#include "explain/block_marks.h"
#include "snapshots/glibc_malloc.h"
#include "snapshots/pymalloc.h"
#include "snapshots/python_types.h"

namespace memtrace {

struct TypeCount {
    std::string type;
    uint64_t objects = 0;
    uint64_t bytes = 0;         // of the blocks that they lie in, whole
    uint64_t buffer_bytes = 0;  // resident, of the larger buffers that they alone point to
};

struct BlockCount {
    uint64_t blocks = 0;
    uint64_t bytes = 0;
};

// An object that the garbage collector looks at.
struct CollectedObject {
    uint64_t address = 0;
    uint32_t type = 0;  // index in TypeTable::types()
    uint32_t references = 0;
};

// What keeps an arena that is nearly empty.
struct ArenaPins {
    size_t arena = 0;  // index in PymallocSnapshot::arenas
    uint64_t blocks = 0;
    std::map<std::string, uint64_t> blocks_by_type;  // "" for blocks that are no objects
    std::vector<uint64_t> addresses;                 // some of them
};

// Memory that an object has mapped for itself: mmap.mmap.
struct ObjectMapping {
    uint32_t type = 0;
    AddressRange range;
};

struct Census {
    std::vector<TypeCount> types;  // those with the most bytes first
    BlockCount small_buffers;      // pymalloc's, that are no objects: the tables of dicts, lists and so on
    BlockCount kept_objects;       // dead, and kept by their type for the next one of its kind
    std::vector<ArenaPins> pins;
    // Resident bytes of the C heap, and of blocks that are mappings of their own.
    uint64_t heap_objects = 0;                  // objects, and their larger buffers
    uint64_t mapped_objects = 0;                // the same
    uint64_t object_mappings = 0;               // private memory that objects have mapped for themselves
    BlockCount native;                          // what else is in use
    std::map<uint64_t, uint64_t> native_sizes;  // blocks by their size, of those
    // Python 2's ints and floats lie in blocks that it never gives back.
    BlockCount number_blocks;
    uint64_t numbers_alive = 0;
    uint64_t number_slots = 0;
    bool complete = true;  // false when there was more than may be looked at
};

// An arena with less than this share in live blocks is kept by them alone.
constexpr double kPinnedShare = 0.1;

// Call add_chunk for all of the C heap's before add_pool: what objects in pools point to is looked for among these.
// Then for those that are mappings of their own: buffers_elsewhere() says where some begin.
class CensusTaker {
  public:
    // `place` as long as there is a pymalloc; `arenas`: where its arenas begin, sorted.
    CensusTaker(const ResidentMemory &memory, const PythonVersion &version, std::vector<uint64_t> arenas,
                const PymallocPlace &place)
        : types_(memory, version),
          memory_(memory),
          version_(version),
          marks_(std::move(arenas), place.arena_bytes),
          place_(place) {}

    void add_chunk(const LiveChunk &chunk, bool is_mapped);
    void add_pool(const UsedPoolCopy &pool);
    // Buffers of objects that were found so far, and that lie in no block that was.
    std::vector<uint64_t> buffers_elsewhere() const;
    const std::vector<ObjectMapping> &mappings() const {
        return mappings_;
    }
    void own_mapping(const ObjectMapping &mapping, int64_t resident_bytes);
    Census finish();
    // After finish(). Empty when there are too many.
    const std::vector<CollectedObject> &collected() const {
        return collected_;
    }
    bool has_too_many_collected() const {
        return too_many_collected_;
    }
    const TypeTable &types() const {
        return types_;
    }
    // What a chunk of the C heap is, in words.
    std::string describe(const Chunk &chunk);

  private:
    struct LargeBlock {
        uint64_t bytes = 0;
        uint64_t resident_bytes = 0;
        bool is_mapped = false;
        bool is_owned = false;
        uint32_t owner = 0;  // its type
    };
    struct Count {
        uint64_t objects = 0;
        uint64_t bytes = 0;
        uint64_t buffer_bytes = 0;
        uint64_t in_arena = 0;  // in the one that is being read
    };

    bool has_room(Detail detail);
    void own_small(uint64_t address);
    Count &count(uint32_t type);
    bool own(uint32_t type, uint64_t address);
    void add_owner(uint32_t type, uint64_t buffer);
    void add_mapping(uint32_t type, std::span<const uint8_t> block);
    void add_collected(const IdentifiedObject &object, uint64_t block);
    bool add_number_block(const LiveChunk &chunk);
    void finish_arena();

    struct Room {
        uint32_t asked = 0;
        bool is_there = false;
    };

    std::map<Detail, Room> room_;
    TypeTable types_;
    const ResidentMemory &memory_;
    PythonVersion version_;
    BlockMarks marks_;
    PymallocPlace place_;
    Census census_;
    std::vector<Count> counts_;                       // by type
    std::unordered_map<uint64_t, LargeBlock> large_;  // by the address that its user has
    // Buffer and its first owner's type, where the buffer's block is not known yet. All empty dicts have one.
    std::unordered_map<uint64_t, uint32_t> owners_;
    std::vector<ObjectMapping> mappings_;
    std::vector<CollectedObject> collected_;
    bool too_many_collected_ = false;
    size_t arena_ = SIZE_MAX;
    ArenaPins pins_;
    uint64_t arena_live_bytes_ = 0;
    uint64_t arena_buffers_ = 0;
};

}  // namespace memtrace
