// SPDX-License-Identifier: Apache-2.0
#include "process/memory_map.h"

#include <fmt/core.h>

#include <cctype>
#include <charconv>
#include <string_view>

namespace memtrace {

namespace {

// "Rss:      132 kB", behind the colon.
int64_t parse_kib(std::string_view figure) {
    figure.remove_prefix(std::min(figure.find_first_of("0123456789"), figure.size()));
    int64_t kib = 0;
    std::from_chars(figure.data(), figure.data() + figure.size(), kib);
    return kib * 1024;
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

std::vector<MappedMemory> parse_memory_map(const std::string &text) {
    std::vector<MappedMemory> all;
    for (size_t at = 0; at < text.size();) {
        size_t end = std::min(text.find('\n', at), text.size());
        std::string line = text.substr(at, end - at);
        at = end + 1;
        // A mapping's first line begins with its address, those of its figures with a capital. (A path may hold any
        // character but a newline, which the kernel prints as \012.)
        if (line.empty() || std::isupper(static_cast<unsigned char>(line[0]))) {
            if (!all.empty())
                take_figure(all.back(), line);
            continue;
        }
        for (Mapping &mapping : parse_mappings(line))
            all.push_back({.mapping = std::move(mapping)});
    }
    return all;
}

std::optional<std::vector<MappedMemory>> read_memory_map(int pid) {
    // 65,530 mappings (vm.max_map_count) of some 700 bytes.
    auto text = read_whole_file(fmt::format("/proc/{}/smaps", pid), 64 << 20);
    if (!text)
        return std::nullopt;
    return parse_memory_map(*text);
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
