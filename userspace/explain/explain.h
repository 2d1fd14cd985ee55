// SPDX-License-Identifier: Apache-2.0
// Where the memory of one process is, as of now: one snapshot, read from outside, without BPF.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "explain/causes/causes.h"
#include "explain/census.h"
#include "explain/garbage.h"
#include "explain/heap_split.h"
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

// A live chunk near the end of the C heap.
struct HeapPin {
    Chunk chunk;
    std::string owner;  // in words: "a Python object of type dict"
};

// In words, which line touched the page of this address first; empty when that is not known.
using FirstTouch = std::function<std::string(uint64_t address)>;

// Of mapped files, what is in memory.
struct MappedFile {
    std::string path;
    int64_t resident_bytes = 0;
    int64_t changed_bytes = 0;  // of these: the process's own copies, of a private mapping that it has written to
    bool has_code = false;      // a program or a library
};

struct GivenBack {
    std::string how;  // "munmap", "brk" and so on
    std::string line;
    int64_t bytes = 0;
};

// What tracing knows of the process, while it was traced. Lines are in words; those with the most bytes first.
struct Traced {
    FirstTouch first_touch;                               // may be empty
    std::vector<std::pair<std::string, int64_t>> copies;  // of pages that another process had too, by who wrote to them
    int64_t copied_header_bytes = 0;                      // of these: reference counts, and the collector's marks
    std::optional<int64_t> copied_in_collections_bytes;   // of these: while the collector ran; null: not counted
    std::string no_collections;                           // a clause that says why not
    bool begun_by_fork = false;                           // collections are seen from some milliseconds later on
    std::vector<GivenBack> returns;

    int64_t copied_bytes() const;
};

struct Explanation {
    int pid = 0;
    ProcessIdentity identity;
    FoundPython python;
    int64_t rss_bytes = 0;
    int64_t pss_bytes = 0;   // of it, each page divided by the processes that have it
    int64_t swap_bytes = 0;  // beside it: swapped out
    std::optional<int64_t> peak_rss_bytes;
    std::vector<Layer> layers;
    std::optional<PymallocSnapshot> pymalloc;  // null: not found, so the process uses another allocator
    std::optional<MimallocSnapshot> mimalloc;  // null: not found, so the interpreter does not use it
    std::optional<GlibcSnapshot> glibc;        // null: not found, so the process uses another C library or allocator
    std::optional<Census> census;    // null: the interpreter's objects are laid out as no version that is known
    std::optional<Garbage> garbage;  // null: not looked for, in too many objects
    HeapSplit heap;                  // of the main thread's C heap
    std::map<std::string, uint64_t>
        pin_lines;                   // objects that keep nearly empty arenas, some, by who touched their page
    std::vector<HeapPin> heap_pins;  // what keeps its end: some, those nearest to it last
    int64_t huge_page_bytes = 0;     // resident in transparent huge pages
    std::vector<MappedFile> files;   // those with the most bytes first
    std::vector<std::pair<std::string, int64_t>> shared_memory;  // by name, and the resident bytes; the same
    std::vector<std::string> incomplete;  // sentences: what was not looked at, or not whole, and why
    Traced traced;
    std::vector<Finding> findings;
    std::optional<CAllocator> c_allocator;  // null: not known
    std::optional<uint64_t> frozen_ns;      // for how long it was paused; null: it was not
    uint64_t duration_ns = 0;               // of taking it

    int64_t layer(std::string_view owner) const;  // 0 when there is none
};

// With `freeze`, pauses the process while it is read. Throws Failure for one that may not be looked at, or not be
// paused, or has gone meanwhile.
// `on_read`, if given, is called all the time (ReadingChild::Watch), and may throw: then that is what comes of it.
Explanation explain(int pid, const FoundPython &python, bool freeze = false, Traced traced = {},
                    const std::function<void()> &on_read = {});

}  // namespace memtrace
