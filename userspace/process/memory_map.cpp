// SPDX-License-Identifier: Apache-2.0
#include "process/memory_map.h"

#include <fmt/core.h>

#include <cctype>
#include <charconv>
#include <string_view>
#include <utility>

namespace memtrace {

namespace {

// More than any address space; that many times a million can still be added up.
constexpr uint64_t kMostKib = uint64_t{1} << 33;

// "Rss:      132 kB", behind the colon.
int64_t parse_kib(std::string_view figure) {
    figure.remove_prefix(std::min(figure.find_first_of("0123456789"), figure.size()));
    uint64_t kib = 0;
    std::from_chars(figure.data(), figure.data() + figure.size(), kib);
    return static_cast<int64_t>(std::min(kib, kMostKib) * 1024);
}

void take_figure(MappedMemory &memory, std::string_view line) {
    static constexpr std::pair<std::string_view, int64_t MappedMemory::*> kFigures[] = {
        {"Rss:", &MappedMemory::rss_bytes},
        {"Anonymous:", &MappedMemory::anonymous_bytes},
        {"LazyFree:", &MappedMemory::lazy_free_bytes},
        {"AnonHugePages:", &MappedMemory::huge_page_bytes},
        {"Pss:", &MappedMemory::pss_bytes},
        {"Swap:", &MappedMemory::swap_bytes},
    };
    for (auto [name, member] : kFigures)
        if (line.starts_with(name))
            memory.*member = parse_kib(line.substr(name.size()));
    if (line.starts_with("VmFlags:"))
        memory.huge_pages_advised = line.find(" hg") != std::string_view::npos;
}

}  // namespace

namespace {

class MemoryMapParser {
  public:
    void add(std::string_view line) {
        // A mapping's first line begins with its address, those of its figures with a capital. (A path may hold any
        // character but a newline, which the kernel prints as \012.)
        if (line.empty() || std::isupper(static_cast<unsigned char>(line[0]))) {
            if (!map_.parts.empty())
                take_figure(is_full_ ? rest_ : map_.parts.back(), line);
            if (is_full_ && line.starts_with("VmFlags:"))
                map_.left_out_rss_bytes += std::exchange(rest_, {}).rss_bytes;
            return;
        }
        auto mapping = mappings_.parse(line);
        if (!mapping)
            return;
        is_full_ = map_.parts.size() == kMaxMappings;
        if (is_full_)
            map_.left_out++;
        else
            map_.parts.push_back({.mapping = std::move(*mapping)});
    }

    MemoryMap finish() {
        return std::move(map_);
    }

  private:
    MappingParser mappings_;
    MemoryMap map_;
    MappedMemory rest_;  // the figures of one that is left out
    bool is_full_ = false;
};

}  // namespace

MemoryMap parse_memory_map(std::string_view text) {
    MemoryMapParser parser;
    while (!text.empty()) {
        size_t end = std::min(text.find('\n'), text.size());
        parser.add(text.substr(0, end));
        text.remove_prefix(std::min(end + 1, text.size()));
    }
    return parser.finish();
}

std::optional<MemoryMap> read_memory_map(int pid) {
    MemoryMapParser parser;
    if (!for_each_line(pid, "smaps", [&](std::string_view line) { parser.add(line); }))
        return std::nullopt;
    return parser.finish();
}

std::optional<int64_t> read_peak_rss(int pid) {
    constexpr std::string_view kName = "\nVmHWM:";
    auto status = read_whole_file(fmt::format("/proc/{}/status", pid));
    size_t at = status ? status->find(kName) : std::string::npos;
    if (at == std::string::npos)
        return std::nullopt;
    return parse_kib(std::string_view(*status).substr(at + kName.size()));
}

}  // namespace memtrace
