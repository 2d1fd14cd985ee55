// SPDX-License-Identifier: Apache-2.0
// What /proc/PID/smaps says: each mapping, and how much of it is in memory.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "process/proc_files.h"

namespace memtrace {

struct MappedMemory {
    Mapping mapping;
    int64_t rss_bytes = 0;
    int64_t anonymous_bytes = 0;  // of rss_bytes: private to processes, a file's changed pages among them
    int64_t lazy_free_bytes = 0;  // of anonymous_bytes: given up by MADV_FREE, and not yet taken
    int64_t huge_page_bytes = 0;  // of anonymous_bytes: in transparent huge pages
    // Huge pages were asked for by MADV_HUGEPAGE. Those that the kernel maps page by page are not in huge_page_bytes.
    bool huge_pages_advised = false;
    int64_t pss_bytes = 0;  // each page divided by the processes that have it
    int64_t swap_bytes = 0;
};

struct MemoryMap {
    std::vector<MappedMemory> parts;  // kMaxMappings at most
    uint64_t left_out = 0;            // mappings, of more than that
    int64_t left_out_rss_bytes = 0;
};

// Null when the process has gone or is not ours to look at (errno says which). Takes the kernel a millisecond for some
// 10 MiB; a process that moves meanwhile may show a page twice, or not at all.
std::optional<MemoryMap> read_memory_map(int pid);
// The largest resident set that the process has had, in bytes (VmHWM). Null when the process has gone.
std::optional<int64_t> read_peak_rss(int pid);
// Pure: the text of an smaps file.
MemoryMap parse_memory_map(std::string_view text);

}  // namespace memtrace
