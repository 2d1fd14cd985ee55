// SPDX-License-Identifier: Apache-2.0
// Pages of zeros beside others, in huge pages: as a rule, the program has written to the others only.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "explain/address_space.h"
#include "snapshots/allocator_data.h"
#include "snapshots/resident_memory.h"

namespace memtrace {

// Reads a gibibyte at most. Not thread-safe.
class HugePageZeros {
  public:
    // Both must outlive it.
    HugePageZeros(const ResidentMemory &resident, const AddressSpace &space);

    // Whether a mapping may have huge pages, or those of a range.
    bool may_be_in(const MappedMemory &part) const;
    bool may_be_in(const AddressRange &range) const;
    // Looks for them in a range. Gives their bytes, and remembers where they are. A huge page of nothing but zeros the
    // program has written to, or it would not be there.
    uint64_t find(const AddressRange &range);
    // Of those that were found, the bytes in huge pages that lie in this range.
    uint64_t bytes_in(const AddressRange &range) const;
    // Whether all of it was looked through.
    bool complete() const;

  private:
    const ResidentMemory &resident_;
    const AddressSpace &space_;
    const bool allowed_;  // where the system gives no huge pages, advice asks for nothing
    uint64_t bytes_left_ = 1ull << 30;
    std::vector<std::pair<AddressRange, uint64_t>> found_;
};

}  // namespace memtrace
