// SPDX-License-Identifier: Apache-2.0
// What file systems a process has mounted, by /proc/PID/mountinfo.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <set>
#include <string_view>

namespace memtrace {

// Valid as long as the line that it was read from.
struct Mount {
    uint64_t device = 0;  // as Mapping::device has it
    std::string_view type;
    std::string_view options;  // the file system's own: "rw,user_id=1000"
};

// Null when it is no line of mountinfo.
std::optional<Mount> parse_mount(std::string_view line);

// Devices of those mounts that are wanted. None when the process has gone.
std::set<uint64_t> mounted_devices(int pid, const std::function<bool(const Mount &)> &is_wanted);

// Whether files of this device, of those that the process has mounted, are served by a program of somebody who is not
// root (FUSE): it may let whoever opens or reads them wait for ever, root and SIGKILL included. (Not seen: a file
// system that lies over such a one.)
bool is_served_by_a_user(int pid, uint64_t device);

}  // namespace memtrace
