// SPDX-License-Identifier: Apache-2.0
#include "process/present_pages.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <span>

#include "process/proc_files.h"
#include "process/reading_child.h"

namespace memtrace {

namespace {

constexpr uint64_t kMaxMappingBytes = 1ull << 37;

void append(std::vector<PageRange> &ranges, uint64_t start, uint64_t end) {
    if (!ranges.empty() && ranges.back().end == start)
        ranges.back().end = end;
    else
        ranges.push_back({start, end});
}

// False when the kernel has no such call.
bool scan(const PageTables &tables, const Mapping &mapping, std::vector<PageRange> &present) {
    std::array<PageRegion, 512> regions;
    for (uint64_t start = mapping.start; start < mapping.end;) {
        uint64_t before = start;
        ssize_t count = ReadingChild::instance().scan_page_tables(tables, start, mapping.end, regions);
        if (count < 0)
            return errno != ENOTTY && errno != EINVAL;  // else it has gone
        for (const PageRegion &region : std::span(regions).first(static_cast<size_t>(count)))
            append(present, region.start, region.end);
        if (start <= before)
            break;
    }
    return true;
}

void read_words(const PageTables &tables, const Mapping &mapping, std::vector<PageRange> &present) {
    const auto page_bytes = static_cast<uint64_t>(getpagesize());
    if (mapping.end - mapping.start > kMaxMappingBytes || mapping.path().starts_with("[v"))
        return;  // [vvar] is the kernel's, and not counted
    std::array<uint64_t, 4096> words;
    for (uint64_t at = mapping.start; at < mapping.end;) {
        auto wanted = std::span(words).first(std::min<size_t>(words.size(), (mapping.end - at) / page_bytes));
        ssize_t got = ReadingChild::instance().read_page_tables(tables, at / page_bytes, wanted);
        if (got <= 0)
            return;
        for (size_t i = 0; i < static_cast<size_t>(got); i++, at += page_bytes)
            if (words[i] & kPageIsPresent)
                append(present, at, at + page_bytes);
    }
}

// All mappings, one by one, until `read` says that it cannot. Null then too.
template <typename Read>
std::optional<std::vector<PageRange>> read_mapped(int pid, Read read) {
    auto mappings = read_mappings(pid);
    if (!mappings)
        return std::nullopt;
    PageTables tables = ReadingChild::new_page_tables(pid);
    uint64_t word;
    if (ReadingChild::instance().read_page_tables(tables, 0, {&word, 1}) != 1)
        return std::nullopt;
    std::vector<PageRange> present;
    for (const Mapping &mapping : *mappings)
        if (!read(tables, mapping, present))
            return std::nullopt;
    return present;
}

}  // namespace

std::optional<std::vector<PageRange>> read_present_pages(int pid) {
    auto present = read_mapped(pid, scan);
    return present ? present : read_present_words(pid);
}

std::optional<std::vector<PageRange>> read_present_words(int pid) {
    return read_mapped(pid, [](const PageTables &tables, const Mapping &mapping, std::vector<PageRange> &present) {
        read_words(tables, mapping, present);
        return true;
    });
}

}  // namespace memtrace
