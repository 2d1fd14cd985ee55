// SPDX-License-Identifier: Apache-2.0
// Objects that nothing outside of them refers to, and that wait for a garbage collection: found as the collector does
// (Modules/gcmodule.c), from outside. Of each object's count of references those from other objects are taken away;
// what then has one left is referred to from elsewhere, and so is what it refers to. The rest is garbage.
//
// References of types that are not known are not taken away, so what they refer to is never taken for garbage: there
// may be more than is found, and not less.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "explain/census.h"

namespace memtrace {

struct Garbage {
    uint64_t objects = 0;
    uint64_t bytes = 0;            // of their blocks, and of the tables and buffers that they alone have
    std::vector<TypeCount> types;  // those with the most bytes first
    uint64_t arenas = 0;           // in which nothing else is alive
    uint64_t arena_bytes = 0;      // resident, of these
};

// Null when there is more than may be read, or the process changes too much meanwhile.
std::optional<Garbage> find_garbage(const ResidentMemory &memory, const PythonVersion &version, const TypeTable &types,
                                    std::span<const CollectedObject> objects, const PymallocSnapshot &pymalloc);

}  // namespace memtrace
