// SPDX-License-Identifier: Apache-2.0
// A stretch of memory of this process at an address that stays the same, for those who walk foreign heaps: well made at
// first, then changed as the fuzzer says.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "fuzz/input.h"
#include "snapshots/resident_memory.h"

namespace memtrace {

class MemoryImage {
  public:
    static constexpr uint64_t kStart = 0x200000000000, kBytes = 8 << 20;

    MemoryImage() {
        if (mmap(reinterpret_cast<void *>(kStart), kBytes, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == MAP_FAILED)
            abort();
    }
    void clear() {
        madvise(reinterpret_cast<void *>(kStart), kBytes, MADV_DONTNEED);
    }
    void put(uint64_t address, uint64_t word) {
        std::memcpy(reinterpret_cast<void *>(address), &word, sizeof(word));
    }
    // Each change is of one word: where, and what; a small number, any, or an address in here.
    void change(Input &input) {
        while (!input.is_over()) {
            auto place = input.take<uint32_t>();
            uint64_t address = kStart + place % (kBytes / 8) * 8;
            switch (place >> 30) {
                case 0:
                    put(address, input.take<uint16_t>());
                    break;
                case 1:
                    put(address, input.take<uint64_t>());
                    break;
                default:
                    put(address, kStart + input.take<uint32_t>() % kBytes);
            }
        }
    }
    const ResidentMemory &memory() const {
        return memory_;
    }

  private:
    ResidentMemory memory_{getpid()};
};

}  // namespace memtrace
