// SPDX-License-Identifier: Apache-2.0
// What a block of another process's memory is to CPython: an object, of which type, or none. Nothing is asked of
// symbols: an object's second word is its type's address, and a type is what agrees with itself
// (Include/cpython/object.h).
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "process/python_layouts.h"
#include "snapshots/resident_memory.h"

namespace memtrace {

// Types whose objects' references are known, one by one (explain/references.h).
enum class TypeShape { kOther, kList, kTuple, kDict, kSet, kCell, kInstance };

struct PythonType {
    std::string name;  // tp_name: without a module for classes made by Python code
    uint64_t flags = 0;
    uint32_t object_at = 0;  // in its block: behind what the garbage collector and the instance's __dict__ need
    uint32_t buffer_at = 0;  // in the object: a pointer to what is too large to be part of it; 0: none

    bool maps_buffer = false;  // that is memory it has mapped for itself, and its size follows the pointer
    TypeShape shape = TypeShape::kOther;
    // Of kInstance, an object of a class made by Python code that has no other base than object:
    uint32_t basic_bytes = 0;
    uint32_t weakrefs_at = 0;  // in the object: no reference; 0: none

    bool is_collected() const;  // by the garbage collector, when it has a cycle
};

// A block that is an object.
struct IdentifiedObject {
    uint32_t type = 0;  // index in TypeTable::types()
    uint32_t references = 0;
    bool is_kept = false;  // dead, and kept by its type for the next one of its kind (a free list)
};

struct TypeObject;

// Not thread-safe.
class TypeTable {
  public:
    TypeTable(const ResidentMemory &memory, const PythonVersion &version) : version_(version), memory_(memory) {}

    // `block` is a copy of a block in use, its first 48 bytes at least if it has that many.
    std::optional<IdentifiedObject> identify(std::span<const uint8_t> block);
    const std::vector<PythonType> &types() const {
        return types_;
    }

  private:
    static constexpr uint32_t kNone = UINT32_MAX;

    bool is_left_over(std::span<const uint8_t> block, size_t object_at) const;

    uint32_t find(uint64_t address, bool may_read);
    uint32_t read(uint64_t address, int depth);
    bool is_plain_class(const TypeObject &object, int depth) const;
    std::optional<std::string> read_name(uint64_t address) const;

    PythonVersion version_;
    const ResidentMemory &memory_;
    std::vector<PythonType> types_;
    std::unordered_map<uint64_t, uint32_t> known_;  // by address; kNone for what is no type
    uint64_t last_address_ = 0;                     // blocks of one type lie side by side
    uint32_t last_ = kNone;
};

}  // namespace memtrace
