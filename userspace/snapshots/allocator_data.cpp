// SPDX-License-Identifier: Apache-2.0
#include "snapshots/allocator_data.h"

#include <unistd.h>

#include <algorithm>

namespace memtrace {

namespace {

constexpr uint64_t kMaxDataBytes = 64 << 20;

}  // namespace

std::vector<DataCopy> copy_data(const ResidentMemory &memory, std::span<const AddressRange> ranges) {
    std::vector<DataCopy> all;
    auto page = static_cast<uint64_t>(getpagesize());
    uint64_t left = kMaxDataBytes;
    for (const AddressRange &range : ranges) {
        uint64_t size = std::min(range.end - range.start, left) / page * page;
        left -= size;
        DataCopy data{range.start, std::vector<uint64_t>(size / sizeof(uint64_t))};
        if (memory.copy(range.start, range.start + size, data.words.data()))
            all.push_back(std::move(data));
    }
    return all;
}

// As of when something near was asked for first.
bool Guesses::may_be_present(uint64_t page) {
    constexpr size_t kMaxWindows = 4096;
    uint64_t start = page / kWindow * kWindow;
    auto known = windows_.find(start);
    if (known == windows_.end() && windows_.size() == kMaxWindows)
        return true;
    if (known == windows_.end())
        known = windows_.emplace(start, memory_.present(start, start + kWindow).value_or(std::vector<bool>())).first;
    size_t index = (page - start) / static_cast<size_t>(getpagesize());
    return index < known->second.size() && known->second[index];
}

bool Guesses::read(uint64_t address, void *into, size_t size) {
    constexpr size_t kMaxPages = 4096;  // 16 MiB
    constexpr int kMaxAbsent = 64;
    if (left_-- <= 0)
        return false;
    uint64_t start = address / kPage * kPage, offset = address - start;
    auto known = pages_.find(start);
    if (offset + size > kPage || (known == pages_.end() && pages_.size() == kMaxPages))
        return memory_.read(address, into, size);
    if (known == pages_.end()) {
        auto page = std::make_unique<Page>();
        // Good guesses are read at once, while what they are compared with is still as it was.
        bool is_read = (absent_ < kMaxAbsent || may_be_present(start)) && memory_.read(start, page->data(), kPage);
        absent_ += !is_read;
        known = pages_.emplace(start, is_read ? std::move(page) : nullptr).first;
    }
    if (!known->second)
        return false;
    std::memcpy(into, known->second->data() + offset, size);
    return true;
}

bool find_list_heads(const DataCopy &data, size_t heads, ElementTest may_be_element,
                     const std::function<bool(size_t word)> &confirm) {
    const auto &words = data.words;
    // How many pairs in a row may be heads, up to the one that ends before this word. Pairs begin at any word.
    std::vector<uint32_t> run(words.size() + 2, 0);
    for (size_t i = 0; i + 1 < words.size(); i++) {
        uint64_t itself = data.address_of(i) - 16, first = words[i], last = words[i + 1];
        if (!(first == itself && last == itself) && !(may_be_element(first) && may_be_element(last)))
            continue;
        run[i + 2] = run[i] + 1;
        if (run[i + 2] >= heads && confirm(i + 2 - 2 * heads))
            return true;
    }
    return false;
}

}  // namespace memtrace
