// SPDX-License-Identifier: Apache-2.0
#include "snapshots/resident_memory.h"

#include <unistd.h>

#include <algorithm>
#include <array>

namespace memtrace {

namespace {

constexpr uint64_t kMaxRangeBytes = 1ull << 40;  // 32 MiB of bits

const auto kPageBytes = static_cast<uint64_t>(getpagesize());

}  // namespace

ResidentMemory::ResidentMemory(int pid) : tables_(ReadingChild::new_page_tables(pid)), memory_(pid) {}

bool ResidentMemory::read(uint64_t address, void *into, size_t size) const {
    return size && address + size > address &&
           ReadingChild::instance().read_resident(tables_, address, into, size) == static_cast<ssize_t>(size);
}

std::optional<std::vector<bool>> ResidentMemory::present(uint64_t start, uint64_t end) const {
    if (end < start || end - start > kMaxRangeBytes)
        return std::nullopt;
    uint64_t first = start / kPageBytes, count = (end - start) / kPageBytes;
    std::vector<bool> pages;
    pages.reserve(count);
    std::array<uint64_t, 4096> words;
    while (pages.size() < count) {
        auto wanted = std::span(words).first(std::min<size_t>(words.size(), count - pages.size()));
        ssize_t got = ReadingChild::instance().read_page_tables(tables_, first + pages.size(), wanted);
        if (got <= 0)
            return std::nullopt;
        for (uint64_t word : wanted.first(static_cast<size_t>(got)))
            pages.push_back(word & kPageIsPresent);
    }
    return pages;
}

std::optional<std::vector<bool>> ResidentMemory::copy(uint64_t start, uint64_t end, void *into) const {
    if (end < start || end - start > kMaxRangeBytes)
        return std::nullopt;
    std::vector<bool> pages;
    pages.reserve((end - start) / kPageBytes);
    for (uint64_t at = start, next; at < end; at = next) {
        next = std::min<uint64_t>(end, at + ReadingChild::kMostCopied);
        if (!ReadingChild::instance().copy_resident(tables_, at, next, static_cast<uint8_t *>(into) + (at - start),
                                                    pages))
            return std::nullopt;
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
