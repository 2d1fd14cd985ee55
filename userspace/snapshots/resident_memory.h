// SPDX-License-Identifier: Apache-2.0
// What of a process is in memory, and nothing else. To read a page that is not would bring it there: a file's with
// those around it, one that was never touched, one that was swapped out. So the kernel is asked first
// (/proc/PID/pagemap), and such pages are left alone.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "base/file_descriptor.h"
#include "process/remote_memory.h"

namespace memtrace {

// Not thread-safe.
class ResidentMemory : public RemoteMemory {
  public:
    explicit ResidentMemory(int pid);

    // False too where a page is not in memory.
    bool read(uint64_t address, void *into, size_t size) const override;
    // One entry a page of [start, end), page aligned, true where it is in memory. Null when the kernel does not tell,
    // and of more than 1 TiB.
    std::optional<std::vector<bool>> present(uint64_t start, uint64_t end) const;
    // The same, and copies those pages to `into`, which has room for the whole range. A page that could not be read,
    // since it went meanwhile, is not in memory.
    std::optional<std::vector<bool>> copy(uint64_t start, uint64_t end, void *into) const;

  private:
    FileDescriptor page_map_;
    ProcessMemory memory_;
};

// Which bytes of [start, end) are in memory, asked for once.
class ResidentRange {
  public:
    ResidentRange(const ResidentMemory &memory, uint64_t start, uint64_t end);

    // How many of [start, end), as far as that is in the range.
    uint64_t bytes(uint64_t start, uint64_t end) const;

  private:
    uint64_t start_;
    uint64_t end_;
    std::vector<bool> present_;  // pages, from the one with start_ on
};

}  // namespace memtrace
