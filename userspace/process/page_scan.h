// SPDX-License-Identifier: Apache-2.0
// Which pages a process's page tables have: in the words of /proc/PID/pagemap, or asked for at once (PAGEMAP_SCAN, Linux
// 6.7 and later).
#pragma once

#include <cstdint>
#include <span>

namespace memtrace {

// Bits of a page's word (Documentation/admin-guide/mm/pagemap.rst).
inline constexpr uint64_t kPageIsPresent = 1ull << 63;
inline constexpr uint64_t kPageIsOfFile = 1ull << 61;  // or of shared memory

// A stretch of pages: struct page_region of linux/fs.h from Linux 6.7 on. Addresses.
struct PageRegion {
    uint64_t start;
    uint64_t end;
    uint64_t categories;
};

// Of [start, end), as many stretches in memory as there is room for: how many, and `start` is where to go on, `end`
// when it is through. The kernel's page of zeros is in none. -1, and errno says why; ENOTTY or EINVAL where the kernel
// has no such call.
int scan_page_map(int page_map, uint64_t &start, uint64_t end, std::span<PageRegion> regions);

}  // namespace memtrace
