// SPDX-License-Identifier: Apache-2.0
// What of a process is in memory, and nothing else. To read a page that is not would bring it there: a file's with
// those around it, one that was never touched, one that was swapped out. So the kernel is asked first
// (/proc/PID/pagemap), and such pages are left alone.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "process/reading_child.h"
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
    // Calls `visit` with each page of [start, end) that is in memory, and the T at its beginning.
    template <typename T, typename Visit>
    void read_beginnings(uint64_t start, uint64_t end, Visit visit) const {
        std::vector<T> values(kPagesAtOnce);
        std::vector<uint64_t> pages = present_pages(start, end);
        for (size_t at = 0; at < pages.size();) {
            auto some = std::span(pages).subspan(at, std::min(kPagesAtOnce, pages.size() - at));
            size_t read = memory_.read_each(some, values.data(), sizeof(T));
            for (size_t i = 0; i < read; i++)
                visit(some[i], values[i]);
            at += std::max<size_t>(read, 1);  // without the one that went meanwhile
        }
    }

  private:
    static constexpr size_t kPagesAtOnce = 1024;
    std::vector<uint64_t> present_pages(uint64_t start, uint64_t end) const;

    PageTables tables_;
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
