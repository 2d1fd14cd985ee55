// SPDX-License-Identifier: Apache-2.0
#include "snapshots/glibc_mapped_chunks.h"

#include <unistd.h>

#include <algorithm>
#include <functional>
#include <map>
#include <optional>

#include "snapshots/glibc_heap_walk.h"

namespace memtrace {

namespace {

constexpr size_t kMaxChunksFound = 1 << 16;  // vm.max_map_count, and DEFAULT_MMAP_MAX
constexpr uint64_t kMaxPages = 4 << 20;      // that are searched: 16 GiB, in a second or two
constexpr uint64_t kAbsentPerPage = 64;      // pages that are not in memory take as much as one that is
constexpr uint64_t kPiecePages = 4096;

class MappedChunkFinder {
  public:
    MappedChunkFinder(const ResidentMemory &memory, std::span<const AddressRange> ranges,
                      const GlibcParameters &parameters)
        : memory_(memory), ranges_(ranges), wanted_(parameters.mapped_chunks) {
        if (!parameters.mmap_threshold)  // they could not be read
            wanted_ = kMaxChunksFound;
    }

    bool is_done() const {
        return chunks_.size() >= std::min<uint64_t>(wanted_, kMaxChunksFound);
    }

    // What begins with a header at this address, or null. One that is aligned to more than 16 bytes (memalign) has its
    // header behind the start of its mapping, and says how far.
    std::optional<Chunk> chunk_at(uint64_t address, const AddressRange &range) const {
        auto header = memory_.read_value<ChunkHeader>(address);
        return header ? chunk_of(*header, address, range) : std::nullopt;
    }

    std::optional<Chunk> chunk_of(const ChunkHeader &header, uint64_t address, const AddressRange &range) const {
        if (header.size != (header.bytes() | ChunkHeader::kIsMapped) || header.previous_bytes > address - range.start)
            return std::nullopt;
        uint64_t start = address - header.previous_bytes, size = header.bytes() + header.previous_bytes;
        // In 2.43 the size is without the header.
        uint64_t whole = size % page_ == page_ - kChunkHeaderBytes ? size + kChunkHeaderBytes : size;
        if (start % page_ || !header.bytes() || whole % page_ || whole < size || whole > range.end - start)
            return std::nullopt;
        return Chunk{address, start + whole - address};
    }

    // Blocks do not overlap: of headers that say so the first that was found is believed, and what they make us look at
    // is no more than is mapped.
    void add(const Chunk &chunk) {
        auto above = chunks_.lower_bound(chunk.address);
        bool overlaps = (above != chunks_.end() && page_of(above->first) < chunk.address + chunk.bytes) ||
                        (above != chunks_.begin() &&
                         std::prev(above)->first + std::prev(above)->second.bytes > page_of(chunk.address));
        if (!overlaps)
            chunks_.emplace(chunk.address, chunk);
    }

    void add_block(uint64_t block) {
        if (const AddressRange *range = range_of(block); range && block - range->start >= kChunkHeaderBytes)
            if (auto chunk = chunk_at(block - kChunkHeaderBytes, *range))
                add(*chunk);
    }

    // Those that follow one another from where unknown memory begins; and what is left.
    void follow(AddressRange part) {
        while (part.start < part.end && !is_done()) {
            auto chunk = chunk_at(part.start, part);
            if (!chunk)
                break;
            add(*chunk);
            part.start += chunk->bytes;
        }
        if (part.start < part.end)
            left_.push_back(part);
    }

    // Page by page, wherever one may begin.
    bool search() {
        uint64_t pages_left = kMaxPages;
        for (const AddressRange &part : left_) {
            uint64_t next = part.start;  // behind the last one found
            // The last page of all addresses may be mapped ([vsyscall]): nothing is added to where a piece ends.
            for (uint64_t start = part.start, end; start < part.end && !is_done(); start = end) {
                end = start + std::min(part.end - start, kPiecePages * page_);
                if (pages_left < 2 * kPiecePages)
                    return false;
                pages_left -= (end - start) / page_ / kAbsentPerPage;
                memory_.read_beginnings<ChunkHeader>(start, end, [&](uint64_t at, const ChunkHeader &header) {
                    pages_left--;
                    auto chunk = at >= next && !header.previous_bytes ? chunk_of(header, at, part) : std::nullopt;
                    if (!chunk || is_done())
                        return;
                    add(*chunk);
                    next = at + chunk->bytes;
                });
            }
        }
        return true;
    }

    // What of the ranges is neither in `others` nor in a chunk.
    void split(std::span<const AddressRange> others, const std::function<void(AddressRange)> &visit) const {
        std::vector<AddressRange> taken(others.begin(), others.end());
        for (const auto &[address, chunk] : chunks_)
            taken.push_back({page_of(address), address + chunk.bytes});
        std::sort(taken.begin(), taken.end(),
                  [](const AddressRange &a, const AddressRange &b) { return a.start < b.start; });
        auto other = taken.begin();
        for (const AddressRange &range : ranges_) {
            uint64_t at = range.start;
            for (; other != taken.end() && other->start < range.end; ++other) {
                if (other->start > at)
                    visit({at, other->start / page_ * page_});
                at = std::max(at, (other->end + page_ - 1) / page_ * page_);
            }
            if (at < range.end)
                visit({at, range.end});
        }
    }

    MappedChunks take(bool complete) {
        MappedChunks found{{}, complete};
        for (const auto &[address, chunk] : chunks_)
            found.chunks.push_back(chunk);
        return found;
    }

  private:
    uint64_t page_of(uint64_t address) const {
        return address / page_ * page_;
    }

    const AddressRange *range_of(uint64_t address) const {
        auto above = std::upper_bound(ranges_.begin(), ranges_.end(), address,
                                      [](uint64_t at, const AddressRange &range) { return at < range.start; });
        return above == ranges_.begin() || address >= std::prev(above)->end ? nullptr : &*std::prev(above);
    }

    const ResidentMemory &memory_;
    std::span<const AddressRange> ranges_;
    uint64_t wanted_;
    const uint64_t page_ = static_cast<uint64_t>(getpagesize());
    std::map<uint64_t, Chunk> chunks_;
    std::vector<AddressRange> left_;
};

}  // namespace

MappedChunks find_mapped_chunks(const ResidentMemory &memory, std::span<const AddressRange> ranges,
                                std::span<const AddressRange> others, std::span<const uint64_t> blocks,
                                const GlibcParameters &parameters) {
    MappedChunkFinder finder(memory, ranges, parameters);
    for (uint64_t block : blocks) {
        if (finder.is_done())
            break;
        finder.add_block(block);
    }
    std::vector<AddressRange> parts;
    finder.split(others, [&parts](AddressRange part) { parts.push_back(part); });
    for (const AddressRange &part : parts)
        finder.follow(part);
    return finder.take(finder.is_done() || finder.search());
}

}  // namespace memtrace
