// SPDX-License-Identifier: Apache-2.0
#include "process/shared_memory.h"

#include <algorithm>
#include <array>
#include <string_view>

#include "process/mounts.h"

namespace memtrace {

std::set<uint64_t> read_memory_devices(int pid) {
    static constexpr std::array<std::string_view, 4> kOfMemory = {"tmpfs", "ramfs", "devtmpfs", "hugetlbfs"};
    return mounted_devices(pid, [](const Mount &mount) {
        return std::find(kOfMemory.begin(), kOfMemory.end(), mount.type) != kOfMemory.end();
    });
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
