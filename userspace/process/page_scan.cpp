// SPDX-License-Identifier: Apache-2.0
#include "process/page_scan.h"

#include <sys/ioctl.h>

namespace memtrace {

namespace {

// struct pm_scan_arg of linux/fs.h from Linux 6.7 on.
struct ScanArguments {
    uint64_t size;
    uint64_t flags;
    uint64_t start;
    uint64_t end;
    uint64_t walk_end;
    uint64_t regions;
    uint64_t region_count;
    uint64_t max_pages;
    uint64_t inverted;
    uint64_t required;
    uint64_t any_of;
    uint64_t returned;
};
constexpr unsigned long kScan = _IOWR('f', 16, ScanArguments);  // PAGEMAP_SCAN
constexpr uint64_t kIsPresent = 1 << 3;                         // PAGE_IS_PRESENT
constexpr uint64_t kIsZeroPage = 1 << 5;                        // PAGE_IS_PFNZERO

}  // namespace

int scan_page_map(int page_map, uint64_t &start, uint64_t end, std::span<PageRegion> regions) {
    ScanArguments arguments{};
    arguments.size = sizeof(arguments);
    arguments.start = start;
    arguments.end = end;
    arguments.regions = reinterpret_cast<uintptr_t>(regions.data());
    arguments.region_count = regions.size();
    arguments.inverted = kIsZeroPage;
    arguments.required = kIsPresent | kIsZeroPage;
    arguments.returned = kIsPresent;
    int count = ioctl(page_map, kScan, &arguments);
    if (count >= 0)
        start = arguments.walk_end;
    return count;
}

}  // namespace memtrace
