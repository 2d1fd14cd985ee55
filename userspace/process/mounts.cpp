// SPDX-License-Identifier: Apache-2.0
#include "process/mounts.h"

#include <unistd.h>

#include <cstdio>
#include <string>

#include "process/proc_files.h"

namespace memtrace {

namespace {

bool is_fuse(const Mount &mount) {
    return mount.type == "fuse" || mount.type == "fuseblk" || mount.type.starts_with("fuse.");
}

bool is_roots(const Mount &mount) {
    return (std::string(mount.options) + ",").find(",user_id=0,") != std::string::npos;
}

}  // namespace

std::optional<Mount> parse_mount(std::string_view line) {
    // "23 28 0:21 / /dev/shm rw,nosuid shared:4 - tmpfs tmpfs rw": fields of an unknown number lie before the dash
    // (Documentation/filesystems/proc.rst).
    unsigned long major = 0, minor = 0;
    size_t dash = line.find(" - ");
    if (dash == std::string_view::npos ||
        std::sscanf(std::string(line.substr(0, dash)).c_str(), "%*u %*u %lu:%lu", &major, &minor) != 2)
        return std::nullopt;
    Mount mount;
    mount.device = major << 20 | minor;
    std::string_view rest = line.substr(dash + 3);
    mount.type = rest.substr(0, rest.find(' '));
    mount.options = rest.substr(rest.rfind(' ') + 1);
    return mount;
}

std::set<uint64_t> mounted_devices(int pid, const std::function<bool(const Mount &)> &is_wanted) {
    std::set<uint64_t> devices;
    for_each_line(pid, "mountinfo", [&](std::string_view line) {
        if (auto mount = parse_mount(line); mount && is_wanted(*mount))
            devices.insert(mount->device);
    });
    return devices;
}

bool is_served_by_a_user(int pid, uint64_t device) {
    // (In a user namespace a process may call itself root: it is root for us in what we have mounted.)
    auto is_it = [device](const Mount &mount) { return mount.device == device && is_fuse(mount); };
    return !mounted_devices(pid, is_it).empty() &&
           mounted_devices(getpid(), [&](const Mount &mount) { return is_it(mount) && is_roots(mount); }).empty();
}

}  // namespace memtrace
