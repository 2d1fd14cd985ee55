// SPDX-License-Identifier: Apache-2.0
#include "snapshots/resident_memory.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <utility>

namespace memtrace {

namespace {

constexpr uint64_t kPresent = 1ull << 63;  // Documentation/admin-guide/mm/pagemap.rst

constexpr uint64_t kMaxRangeBytes = 1ull << 40;  // 32 MiB of bits

const auto kPageBytes = static_cast<uint64_t>(getpagesize());

}  // namespace

ResidentMemory::ResidentMemory(int pid, std::function<void()> on_read)
    : page_map_(open(fmt::format("/proc/{}/pagemap", pid).c_str(), O_RDONLY | O_CLOEXEC)),
      memory_(pid),
      on_read_(std::move(on_read)) {}

bool ResidentMemory::read(uint64_t address, void *into, size_t size) const {
    uint64_t end = address + size;
    if (end < address || !size)
        return false;
    auto pages = present(address / kPageBytes * kPageBytes, (end + kPageBytes - 1) / kPageBytes * kPageBytes);
    return pages && std::find(pages->begin(), pages->end(), false) == pages->end() && memory_.read(address, into, size);
}

std::optional<std::vector<bool>> ResidentMemory::present(uint64_t start, uint64_t end) const {
    if (end < start || end - start > kMaxRangeBytes)
        return std::nullopt;
    uint64_t first = start / kPageBytes, count = (end - start) / kPageBytes;
    std::vector<bool> pages;
    pages.reserve(count);
    std::array<uint64_t, 512> entries;
    while (pages.size() < count) {
        if (on_read_)
            on_read_();
        size_t wanted = std::min<size_t>(entries.size(), count - pages.size()) * sizeof(uint64_t);
        auto at = static_cast<off_t>((first + pages.size()) * sizeof(uint64_t));
        if (pread(page_map_.get(), entries.data(), wanted, at) != static_cast<ssize_t>(wanted))
            return std::nullopt;
        for (size_t i = 0; i < wanted / sizeof(uint64_t); i++)
            pages.push_back(entries[i] & kPresent);
    }
    return pages;
}

std::optional<std::vector<bool>> ResidentMemory::copy(uint64_t start, uint64_t end, void *into) const {
    auto pages = present(start, end);
    if (!pages)
        return std::nullopt;
    for (auto at = pages->begin(); at != pages->end();) {
        at = std::find(at, pages->end(), true);
        auto behind = std::find(at, pages->end(), false);
        auto offset = static_cast<size_t>(at - pages->begin()) * kPageBytes;
        auto size = static_cast<size_t>(behind - at) * kPageBytes;
        if (size && !memory_.read(start + offset, static_cast<uint8_t *>(into) + offset, size))
            std::fill(at, behind, false);
        at = behind;
    }
    return pages;
}

std::vector<uint64_t> ResidentMemory::present_pages(uint64_t start, uint64_t end) const {
    std::vector<uint64_t> addresses;
    auto pages = present(start, end).value_or(std::vector<bool>());
    for (size_t i = 0; i < pages.size(); i++)
        if (pages[i])
            addresses.push_back(start + i * kPageBytes);
    return addresses;
}

ResidentRange::ResidentRange(const ResidentMemory &memory, uint64_t start, uint64_t end)
    : start_(start), end_(std::max(start, end)) {
    present_ = memory.present(start_ / kPageBytes * kPageBytes, (end_ + kPageBytes - 1) / kPageBytes * kPageBytes)
                   .value_or(std::vector<bool>());
}

uint64_t ResidentRange::bytes(uint64_t start, uint64_t end) const {
    start = std::max(start, start_);
    end = std::min(end, end_);
    uint64_t sum = 0;
    for (uint64_t at = start; at < end;) {
        uint64_t next = std::min(end, (at / kPageBytes + 1) * kPageBytes);
        size_t page = at / kPageBytes - start_ / kPageBytes;
        if (page < present_.size() && present_[page])
            sum += next - at;
        at = next;
    }
    return sum;
}

}  // namespace memtrace
