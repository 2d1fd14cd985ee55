// SPDX-License-Identifier: Apache-2.0
// One look at a process: what its resident set consists of, its allocators and its objects. Without findings, and
// without what tracing knows.
#pragma once

#include <optional>
#include <vector>

#include "explain/explain.h"
#include "process/memory_map.h"

namespace memtrace {

struct ProcessSnapshot {
    Explanation explanation;
    std::vector<MappedMemory> mappings;  // by address
};

// Throws Failure for a process that may not be looked at, or has gone.
ProcessSnapshot take_snapshot(int pid, const FoundPython &python);

// Where pymalloc is, which takes longest to find. Null where it is not found: the process uses another allocator, or
// allocates so fast that nothing agreed.
std::optional<PymallocPlace> find_place(int pid, const FoundPython &python);
// The same of one that stands still, in which one attempt tells. `place` is from find_place().
ProcessSnapshot take_snapshot_standing_still(int pid, const FoundPython &python, std::optional<PymallocPlace> place);

}  // namespace memtrace
