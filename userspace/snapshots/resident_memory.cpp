// SPDX-License-Identifier: Apache-2.0
#include "snapshots/resident_memory.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <array>

namespace memtrace {

namespace {

constexpr uint64_t kPresent = 1ull << 63;  // Documentation/admin-guide/mm/pagemap.rst

const auto kPageBytes = static_cast<uint64_t>(getpagesize());

}  // namespace

ResidentMemory::ResidentMemory(int pid)
    : page_map_(open(fmt::format("/proc/{}/pagemap", pid).c_str(), O_RDONLY | O_CLOEXEC)), memory_(pid) {}

bool ResidentMemory::read(uint64_t address, void *into, size_t size) const {
    uint64_t end = address + size;
    if (end < address || !size)
        return false;
    auto pages = present(address / kPageBytes * kPageBytes, (end + kPageBytes - 1) / kPageBytes * kPageBytes);
    return pages && std::find(pages->begin(), pages->end(), false) == pages->end() && memory_.read(address, into, size);
}

std::optional<std::vector<bool>> ResidentMemory::present(uint64_t start, uint64_t end) const {
    uint64_t first = start / kPageBytes, count = (end - start) / kPageBytes;
    std::vector<bool> pages;
    pages.reserve(count);
    std::array<uint64_t, 512> entries;
    while (pages.size() < count) {
        size_t wanted = std::min<size_t>(entries.size(), count - pages.size()) * sizeof(uint64_t);
        auto at = static_cast<off_t>((first + pages.size()) * sizeof(uint64_t));
        if (pread(page_map_.get(), entries.data(), wanted, at) != static_cast<ssize_t>(wanted))
            return std::nullopt;
        for (size_t i = 0; i < wanted / sizeof(uint64_t); i++)
            pages.push_back(entries[i] & kPresent);
    }
    return pages;
}

}  // namespace memtrace
