// SPDX-License-Identifier: Apache-2.0
#include "process/present_pages.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "base/file_descriptor.h"
#include "process/proc_files.h"

namespace memtrace {

namespace {

// linux/fs.h from Linux 6.7 on.
struct PageRegion {
    uint64_t start;
    uint64_t end;
    uint64_t categories;
};
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

constexpr uint64_t kPresentBit = 1ull << 63;  // Documentation/admin-guide/mm/pagemap.rst
constexpr uint64_t kMaxMappingBytes = 1ull << 37;

void append(std::vector<PageRange> &ranges, uint64_t start, uint64_t end) {
    if (!ranges.empty() && ranges.back().end == start)
        ranges.back().end = end;
    else
        ranges.push_back({start, end});
}

// False when the kernel has no such call.
bool scan(int page_map, const Mapping &mapping, std::vector<PageRange> &present) {
    std::array<PageRegion, 512> regions;
    ScanArguments arguments{};
    arguments.size = sizeof(arguments);
    arguments.start = mapping.start;
    arguments.end = mapping.end;
    arguments.regions = reinterpret_cast<uintptr_t>(regions.data());
    arguments.region_count = regions.size();
    arguments.inverted = kIsZeroPage;
    arguments.required = kIsPresent | kIsZeroPage;
    arguments.returned = kIsPresent;
    while (arguments.start < arguments.end) {
        int count = ioctl(page_map, kScan, &arguments);
        if (count < 0)
            return errno != ENOTTY && errno != EINVAL;  // else it has gone
        for (int i = 0; i < count; i++)
            append(present, regions[static_cast<size_t>(i)].start, regions[static_cast<size_t>(i)].end);
        arguments.start = arguments.walk_end;
    }
    return true;
}

void read_words(int page_map, const Mapping &mapping, std::vector<PageRange> &present) {
    const auto page_bytes = static_cast<uint64_t>(getpagesize());
    if (mapping.end - mapping.start > kMaxMappingBytes || mapping.path().starts_with("[v"))
        return;  // [vvar] is the kernel's, and not counted
    std::array<uint64_t, 4096> words;
    for (uint64_t at = mapping.start; at < mapping.end;) {
        size_t wanted = std::min<size_t>(words.size(), (mapping.end - at) / page_bytes);
        ssize_t got = pread(page_map, words.data(), wanted * sizeof(uint64_t),
                            static_cast<off_t>(at / page_bytes * sizeof(uint64_t)));
        if (got <= 0)
            return;
        for (size_t i = 0; i < static_cast<size_t>(got) / sizeof(uint64_t); i++, at += page_bytes)
            if (words[i] & kPresentBit)
                append(present, at, at + page_bytes);
    }
}

// All mappings, one by one, until `read` says that it cannot. Null then too.
template <typename Read>
std::optional<std::vector<PageRange>> read_mapped(int pid, Read read) {
    auto mappings = read_mappings(pid);
    FileDescriptor page_map(open(fmt::format("/proc/{}/pagemap", pid).c_str(), O_RDONLY | O_CLOEXEC));
    if (!mappings || !page_map)
        return std::nullopt;
    std::vector<PageRange> present;
    for (const Mapping &mapping : *mappings)
        if (!read(page_map.get(), mapping, present))
            return std::nullopt;
    return present;
}

}  // namespace

std::optional<std::vector<PageRange>> read_present_pages(int pid) {
    auto present = read_mapped(pid, scan);
    return present ? present : read_present_words(pid);
}

std::optional<std::vector<PageRange>> read_present_words(int pid) {
    return read_mapped(pid, [](int page_map, const Mapping &mapping, std::vector<PageRange> &present) {
        read_words(page_map, mapping, present);
        return true;
    });
}

}  // namespace memtrace
