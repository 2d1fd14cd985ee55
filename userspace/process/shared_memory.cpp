// SPDX-License-Identifier: Apache-2.0
#include "process/shared_memory.h"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <sstream>
#include <string_view>

namespace memtrace {

std::set<uint64_t> parse_memory_devices(const std::string &text) {
    // "23 28 0:21 / /dev/shm rw,nosuid shared:4 - tmpfs tmpfs rw": fields of an unknown number lie before the dash
    // (Documentation/filesystems/proc.rst).
    static constexpr std::array<std::string_view, 4> kOfMemory = {"tmpfs", "ramfs", "devtmpfs", "hugetlbfs"};
    std::set<uint64_t> devices;
    std::istringstream lines(text);
    for (std::string line; std::getline(lines, line);) {
        unsigned long major = 0, minor = 0;
        if (std::sscanf(line.c_str(), "%*u %*u %lu:%lu", &major, &minor) != 2)
            continue;
        size_t type = line.find(" - ");
        std::string name = type == std::string::npos ? "" : line.substr(type + 3);
        name.resize(std::min(name.find(' '), name.size()));
        if (std::find(kOfMemory.begin(), kOfMemory.end(), name) != kOfMemory.end())
            devices.insert(major << 20 | minor);
    }
    return devices;
}

std::set<uint64_t> read_memory_devices(int pid) {
    return parse_memory_devices(read_whole_file(fmt::format("/proc/{}/mountinfo", pid)).value_or(""));
}

bool is_shared_memory(const Mapping &mapping, const std::set<uint64_t> &memory_devices) {
    // The kernel's own are nowhere mounted. /dev/shm is named for a segment that another mount namespace has.
    static constexpr std::array<std::string_view, 5> kNames = {"/memfd:", "/SYSV", "/dev/zero", "/dev/shm/",
                                                               "[anon_shmem:"};
    bool is_named = std::any_of(kNames.begin(), kNames.end(),
                                [&mapping](std::string_view name) { return mapping.path().starts_with(name); });
    return is_named || (mapping.inode && memory_devices.contains(mapping.device)) ||
           (!mapping.inode && mapping.permissions().ends_with('s'));
}

}  // namespace memtrace
