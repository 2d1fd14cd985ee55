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

bool Guesses::read(uint64_t address, void *into, size_t size) {
    if (left_-- <= 0)
        return false;
    uint64_t start = address / kWindow * kWindow, offset = address - start;
    auto known = windows_.find(start);
    if (offset + size > kWindow || (known == windows_.end() && windows_.size() == kMaxWindows))
        return memory_.read(address, into, size);
    if (known == windows_.end()) {
        Window window{std::vector<uint8_t>(kWindow), {}};
        window.present = memory_.copy(start, start + kWindow, window.bytes.data()).value_or(std::vector<bool>());
        if (std::find(window.present.begin(), window.present.end(), true) == window.present.end())
            window = {};
        known = windows_.emplace(start, std::move(window)).first;
    }
    static const auto kPage = static_cast<size_t>(getpagesize());
    const auto &[bytes, present] = known->second;
    size_t last = (offset + size - 1) / kPage;
    if (last >= present.size() || !present[offset / kPage] || !present[last])
        return false;
    std::memcpy(into, bytes.data() + offset, size);
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
