// SPDX-License-Identifier: Apache-2.0
// A stretch of memory of this process at an address that stays the same, for those who walk foreign heaps: well made at
// first, then changed as the fuzzer says.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "fuzz/input.h"
#include "snapshots/resident_memory.h"

namespace memtrace {

class MemoryImage {
  public:
    static constexpr uint64_t kStart = 0x200000000000;

    explicit MemoryImage(uint64_t bytes = 8 << 20) : bytes_(bytes) {
        if (mmap(reinterpret_cast<void *>(kStart), bytes_, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == MAP_FAILED)
            abort();
    }
    void clear() {
        madvise(reinterpret_cast<void *>(kStart), bytes_, MADV_DONTNEED);
        known_.clear();
    }
    uint64_t bytes() const {
        return bytes_;
    }
    // A word of what is well made.
    void put(uint64_t address, uint64_t word) {
        write(address, word);
        known_.push_back(address);
    }
    // The same of all words here, as they are.
    void put_all(uint64_t start, uint64_t end) {
        for (; start < end; start += sizeof(uint64_t))
            known_.push_back(start);
    }
    // Each change is of one word: of those that are well made, as a rule, or any; to a small number, any, an address in
    // here, or one of those words.
    void change(Input &input) {
        while (!input.is_over()) {
            auto how = input.take<uint8_t>();
            auto place = input.take<uint32_t>();
            uint64_t address = how & 4 || known_.empty() ? any(place) : known_[place % known_.size()];
            switch (how & 3) {
                case 0:
                    write(address, input.take<uint16_t>());
                    break;
                case 1:
                    write(address, input.take<uint64_t>());
                    break;
                case 2:
                    write(address, any(input.take<uint32_t>()) + (how >> 5));
                    break;
                default: {
                    auto other = input.take<uint16_t>();
                    write(address, known_.empty() ? other : known_[other % known_.size()]);
                }
            }
        }
    }
    const ResidentMemory &memory() const {
        return memory_;
    }

  private:
    uint64_t any(uint32_t place) const {
        return kStart + place % (bytes_ / sizeof(uint64_t)) * sizeof(uint64_t);
    }
    static void write(uint64_t address, uint64_t word) {
        std::memcpy(reinterpret_cast<void *>(address), &word, sizeof(word));
    }

    uint64_t bytes_;
    std::vector<uint64_t> known_;
    ResidentMemory memory_{getpid()};
};

}  // namespace memtrace
