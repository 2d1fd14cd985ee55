// SPDX-License-Identifier: Apache-2.0
// What /proc/PID says, as values. Nothing here throws for a process that has gone: it is an ordinary outcome.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace memtrace {

// One line of /proc/PID/maps.
struct Mapping {
    uint64_t start = 0;
    uint64_t end = 0;
    uint64_t offset = 0;
    std::string permissions;  // "r-xp"
    uint64_t device = 0;      // (major << 20) | minor, as the kernel's own dev_t
    uint64_t inode = 0;
    std::string path;  // as the kernel prints it; may end in " (deleted)"

    // The link in /proc/PID/map_files that opens this very file, whatever happened to its name since.
    std::string map_file(int pid) const;
};

// What a person calls a process. Null where /proc no longer tells.
struct ProcessIdentity {
    std::vector<std::string> cmdline;
    std::optional<std::string> cgroup;  // the v2 path, or v1's first when there is no v2
};

// At most `limit` bytes of a file; null when it cannot be opened or read.
std::optional<std::string> read_whole_file(const std::string &path, size_t limit = 4 << 20);

// Null when the process is gone or not ours to look at (errno says which).
std::optional<std::vector<Mapping>> read_mappings(int pid);
// Of each file that code is mapped from, the mapping of its start.
std::vector<Mapping> modules_with_code(const std::vector<Mapping> &mappings);
// Pure: the text of a maps file.
std::vector<Mapping> parse_mappings(const std::string &text);

std::vector<std::string> split_at_nul(const std::string &text);
ProcessIdentity read_identity(int pid);

bool process_exists(int pid);
// A process whose main thread has ended but was not waited for, or a kernel thread: no memory of its own.
bool has_memory(int pid);

}  // namespace memtrace
