// SPDX-License-Identifier: Apache-2.0
// The mappings of a process, whose they are by what the kernel says, and what of any part of them is in memory.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "memtrace/wire.h"
#include "process/memory_map.h"
#include "snapshots/allocator_data.h"
#include "snapshots/resident_memory.h"

namespace memtrace {

// Who has a mapping of no file: "c_heap_live", "stack" or "anonymous" (docs/explain.schema.json).
std::string owner_of(const Mapping &mapping);
// Private memory of no file, neither the C heap nor a stack.
bool is_anonymous(const MappedMemory &part);

// As of the moment at which it was made. Addresses are the process's. Not thread-safe.
class AddressSpace {
  public:
    using Parts = std::vector<MappedMemory>;

    // `resident` reads the same process, and must outlive it. Throws Failure for one that may not be looked at, or has
    // gone.
    AddressSpace(int pid, const ResidentMemory &resident);

    // By address. Those beyond kMaxMappings are missing, and counted.
    const Parts &parts() const {
        return map_.parts;
    }
    uint64_t left_out() const {
        return map_.left_out;
    }
    int64_t left_out_rss_bytes() const {
        return map_.left_out_rss_bytes;
    }

    // The main thread's C heap; empty where there is none.
    AddressRange heap() const;
    // A module's writable mappings, and what the linker put behind them for variables that begin as 0.
    std::vector<AddressRange> data_of(const mt_file_id &module) const;
    // Mappings that an allocator may have made.
    std::vector<AddressRange> anonymous() const;
    // All of those, those that touch as one: the kernel joins and splits mappings, and a block may lie across several.
    std::vector<AddressRange> joined_anonymous() const;

    // The first mapping that ends behind this address.
    Parts::const_iterator first_behind(uint64_t address) const;
    // The owner of the mapping that has this address.
    std::string owner_at(uint64_t address) const;
    // What of a range is in memory, in bytes. The kernel has said so of whole mappings; of parts it is asked page by
    // page, as long as they are not of more address space than may be looked at: memory that was never touched is free,
    // and a thousand times as large. What is beyond counts as 0.
    uint64_t resident_bytes(const AddressRange &range);
    // The same of private memory of no file, without pages that were given up by MADV_FREE.
    int64_t resident_private_bytes(const AddressRange &range);
    // Whether there was more than may be looked at.
    bool has_left_parts() const {
        return has_left_parts_;
    }

  private:
    const ResidentMemory &resident_;
    MemoryMap map_;
    uint64_t parts_left_ = uint64_t{256} << 30;  // bytes of address space: half a second
    bool has_left_parts_ = false;
};

}  // namespace memtrace
