// SPDX-License-Identifier: Apache-2.0
// Finding an allocator's state in a module's data, where no symbol names it. Allocators keep tables of list heads, and
// the head of an empty list points to itself: a pattern that nothing else makes, 32 times in a row.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <unordered_map>
#include <vector>

#include "snapshots/resident_memory.h"

namespace memtrace {

// Part of a process's memory: [start, end), page aligned.
struct AddressRange {
    uint64_t start = 0;
    uint64_t end = 0;
};

template <typename Rows, typename Value>
uint64_t add_up(const Rows &rows, Value value) {
    uint64_t sum = 0;
    for (const auto &row : rows)
        sum += std::invoke(value, row);
    return sum;
}

// The word at this offset, or 0 where they end before.
inline uint64_t word_at(std::span<const uint8_t> bytes, size_t offset) {
    uint64_t word = 0;
    if (offset + sizeof(word) <= bytes.size())
        std::memcpy(&word, bytes.data() + offset, sizeof(word));
    return word;
}

// A copy of one.
struct DataCopy {
    uint64_t start = 0;
    std::vector<uint64_t> words;

    uint64_t address_of(size_t word) const {
        return start + word * sizeof(uint64_t);
    }
};

// What of these ranges is in memory, at most 64 MiB; the rest is taken for 0.
std::vector<DataCopy> copy_data(const ResidentMemory &memory, std::span<const AddressRange> ranges);

// Reads that a guess needs. The data are the process's, which may invite to any number of them: it ends. Many lie in
// the same few pages, so these are copied once, and are as they were then.
class Guesses {
  public:
    explicit Guesses(const ResidentMemory &memory) : memory_(memory) {}

    template <typename T>
    std::optional<T> read(uint64_t address) {
        T value;
        return read(address, &value, sizeof(value)) ? std::optional(value) : std::nullopt;
    }

  private:
    bool read(uint64_t address, void *into, size_t size);

    bool may_be_present(uint64_t page);

    static constexpr size_t kPage = 4096;
    static constexpr uint64_t kWindow = 2 << 20;  // of which it is asked at once what is in memory
    using Page = std::array<uint8_t, kPage>;

    const ResidentMemory &memory_;
    int left_ = 1'000'000;
    int absent_ = 0;  // pages that were not in memory
    std::unordered_map<uint64_t, std::unique_ptr<Page>> pages_;  // null where it is not in memory
    std::unordered_map<uint64_t, std::vector<bool>> windows_;    // by page
};

// Whether a pair of words at `at` may be a list head: its own address 16 bytes before (as if it were an element, whose
// links come third and fourth), twice, or elements that `may_be_element`.
using ElementTest = bool (*)(uint64_t address);

// Calls `confirm` with each word where a table of `heads` such pairs may begin, until it returns true. Whether it did.
bool find_list_heads(const DataCopy &data, size_t heads, ElementTest may_be_element,
                     const std::function<bool(size_t word)> &confirm);

}  // namespace memtrace
