// SPDX-License-Identifier: Apache-2.0
#include "snapshots/glibc_freed_blocks.h"

#include <unistd.h>

#include <algorithm>
#include <vector>

#include "snapshots/glibc_heap_walk.h"

namespace memtrace {

namespace {

constexpr uint64_t kSearchedPieceBytes = 1 << 20;  // that is copied at once
// How many headers in a row are believed. Numbers in an array, counting up, may pass for seven.
constexpr uint8_t kInARow = 8;
constexpr uint8_t kLeadsToEnd = UINT8_MAX;

// For each place of the area where a header may lie, how many follow one another from there on; at most kInARow, or
// kLeadsToEnd.
class HeaderChains {
  public:
    HeaderChains(const ResidentMemory &memory, const AddressRange &area)
        : area_(area), lengths_((area.end - area.start) / kChunkAlignment) {
        auto page = static_cast<uint64_t>(getpagesize());
        std::vector<uint8_t> copy(kSearchedPieceBytes);
        // From the end: what a header leads to is known by then.
        uint64_t end = (area.end + page - 1) / page * page, first = area.start / page * page;
        while (end > first) {
            uint64_t start = std::max(first, (end - 1) / kSearchedPieceBytes * kSearchedPieceBytes);
            if (auto present = memory.copy(start, end, copy.data()))
                take(start, end, copy, *present, page);
            end = start;
        }
    }

    bool is_header(uint64_t address) const {
        return lengths_[place_of(address)] >= kInARow;
    }

  private:
    size_t place_of(uint64_t address) const {
        return (address - area_.start) / kChunkAlignment;
    }

    void take(uint64_t start, uint64_t end, const std::vector<uint8_t> &copy, const std::vector<bool> &present,
              uint64_t page) {
        for (uint64_t at = std::min(end, area_.end); at > std::max(start, area_.start);) {
            at -= kChunkAlignment;
            if (present[(at - start) / page])
                lengths_[place_of(at)] = length_at(at, word_at(copy, at - start + sizeof(uint64_t)));
        }
    }

    uint8_t length_at(uint64_t address, uint64_t size) const {
        constexpr uint64_t kFlags = ChunkHeader::kPreviousInUse | ChunkHeader::kNotMainArena;
        uint64_t bytes = size & ~kFlags;
        if (bytes < kMinChunk || bytes % kChunkAlignment || bytes > area_.end - address)
            return 0;
        if (bytes == area_.end - address)
            return kLeadsToEnd;
        uint8_t behind = lengths_[place_of(address + bytes)];
        return behind == kLeadsToEnd ? behind : behind ? static_cast<uint8_t>(std::min<int>(behind + 1, kInARow)) : 0;
    }

    AddressRange area_;
    std::vector<uint8_t> lengths_;
};

}  // namespace

void FreedBlocks::add(const FreedBlocks &other) {
    blocks += other.blocks;
    resident_bytes += other.resident_bytes;
    largest_bytes = std::max(largest_bytes, other.largest_bytes);
}

FreedBlocks find_freed_blocks(const ResidentMemory &memory, const AddressRange &area, uint64_t least_bytes,
                              uint64_t &left_bytes) {
    FreedBlocks found;
    uint64_t bytes = area.end - area.start;
    if (bytes > left_bytes) {
        left_bytes = 0;
        return found;
    }
    if (area.start % kChunkAlignment || bytes % kChunkAlignment)
        return found;  // the process says so, and no chunk lies so
    left_bytes -= bytes;
    HeaderChains chains(memory, area);
    ResidentRange resident(memory, area.start, area.end);
    uint64_t start = area.start;
    for (uint64_t at = area.start + kChunkAlignment; at <= area.end; at += kChunkAlignment) {
        if (at < area.end && !chains.is_header(at))
            continue;
        if (at - start >= least_bytes)
            found.add({1, resident.bytes(start, at), at - start});
        start = at;
    }
    return found;
}

}  // namespace memtrace
