// SPDX-License-Identifier: Apache-2.0
// Large blocks of the C library's allocator, each a mapping of its own as the allocator has it. The kernel joins
// mappings that touch, other people's too, and splits one of which a part is advised or locked: so a block may lie
// anywhere in memory that is mapped without a gap, and is known by its header alone.
//
//     | foreign mapping ............ | block | block | ... |     one mapping, as /proc/PID/maps shows it
//     | page | advised .......................... | page |       three, of one block
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "snapshots/glibc_malloc.h"

namespace memtrace {

struct MappedChunks {
    std::vector<Chunk> chunks;
    bool complete = true;  // false when there was more memory than may be looked through, and some are missing
};

// Within `ranges`, private anonymous memory, and outside of `others`; both sorted, and ranges joined where they touch.
// `blocks` are where some may begin for their users, as objects know of their buffers: these need no search. Ends with
// as many as the allocator counts.
MappedChunks find_mapped_chunks(const ResidentMemory &memory, std::span<const AddressRange> ranges,
                                std::span<const AddressRange> others, std::span<const uint64_t> blocks,
                                const GlibcParameters &parameters);

}  // namespace memtrace
