// SPDX-License-Identifier: Apache-2.0
// What /proc/PID says, as values. Nothing here throws for a process that has gone: it is an ordinary outcome.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace memtrace {

// One line of /proc/PID/maps.
struct Mapping {
    uint64_t start = 0;
    uint64_t end = 0;
    uint64_t offset = 0;
    uint64_t device = 0;  // (major << 20) | minor, as the kernel's own dev_t
    uint64_t inode = 0;
    std::array<char, 4> rights{'-', '-', '-', 'p'};
    std::shared_ptr<const std::string> name;  // null: none

    // "r-xp".
    std::string_view permissions() const {
        return {rights.data(), rights.size()};
    }
    // As the kernel prints it; may end in " (deleted)". "?": there were too many to keep.
    const std::string &path() const;
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

// Hands over the lines of /proc/PID/NAME, without their ends, one by one; each as long as `take` runs. Of a line longer
// than 32 KiB (the kernel prints a path of 4,095 bytes, each as four characters at most) the rest is left out. False
// when the file cannot be opened or read (errno says why, ReadingChild::describe() in words).
bool for_each_line(int pid, const std::string &name, const std::function<void(std::string_view)> &take);

// What a process may have: the largest vm.max_map_count that distributions set. Each takes some 70 bytes of ours.
constexpr size_t kMaxMappings = 1 << 20;

// Turns lines of a maps file into mappings, and keeps each name once: 64 MiB of them, then they are "?".
class MappingParser {
  public:
    // Null when it is no such line.
    std::optional<Mapping> parse(std::string_view line);

  private:
    std::shared_ptr<const std::string> keep(std::string_view name);

    std::unordered_map<std::string_view, std::shared_ptr<const std::string>> names_;
    size_t name_bytes_ = 0;
};

// Null when the process is gone or not ours to look at (errno says which). The first kMaxMappings.
std::optional<std::vector<Mapping>> read_mappings(int pid);
// Of each file that code is mapped from, the mapping of its start.
std::vector<Mapping> modules_with_code(const std::vector<Mapping> &mappings);
// Pure: the text of a maps file.
std::vector<Mapping> parse_mappings(const std::string &text);

// A command line that ends words with NUL. Of more than 256 words or 16 KiB, which a process may have to be looked at,
// the rest is left out and the last word says so.
std::vector<std::string> parse_command_line(std::string_view text);
ProcessIdentity read_identity(int pid);
// Empty when it is not told.
std::string working_folder(int pid);

bool process_exists(int pid);
// A process whose main thread has ended but was not waited for, or a kernel thread: no memory of its own.
bool has_memory(int pid);

}  // namespace memtrace
