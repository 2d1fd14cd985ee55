// SPDX-License-Identifier: Apache-2.0
// Where the memory of one process is, as of now: one snapshot, read from outside, without BPF.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "process/find_python.h"
#include "process/proc_files.h"
#include "snapshots/c_allocator.h"
#include "snapshots/glibc_malloc.h"
#include "snapshots/mimalloc.h"
#include "snapshots/pymalloc.h"

namespace memtrace {

// Part of the resident set. Together they are all of it.
struct Layer {
    std::string owner;  // "pymalloc_live" and so on: docs/explain.schema.json
    int64_t resident_bytes = 0;
};

struct Explanation {
    int pid = 0;
    ProcessIdentity identity;
    FoundPython python;
    int64_t rss_bytes = 0;
    std::vector<Layer> layers;
    std::optional<PymallocSnapshot> pymalloc;  // null: not found, so the process uses another allocator
    std::optional<MimallocSnapshot> mimalloc;  // null: not found, so the interpreter does not use it
    std::optional<GlibcSnapshot> glibc;        // null: not found, so the process uses another C library or allocator
    std::optional<CAllocator> c_allocator;     // null: not known
    std::optional<uint64_t> frozen_ns;         // for how long it was paused; null: it was not
    uint64_t duration_ns = 0;                  // of taking it
};

// With `freeze`, pauses the process while it is read. Throws Failure for one that may not be looked at, or not be
// paused, or has gone meanwhile.
Explanation explain(int pid, const FoundPython &python, bool freeze = false);

}  // namespace memtrace
