// SPDX-License-Identifier: Apache-2.0
#include "snapshots/glibc_heap_walk.h"

#include <unistd.h>

#include <algorithm>
#include <cstring>

namespace memtrace {

namespace {

constexpr size_t kPieceBytes = 1 << 20;

}  // namespace

HeapWalk::HeapWalk(const ResidentMemory &memory, const GlibcArena &arena, const AddressRange &heap)
    : memory_(memory), arena_(arena), heap_(heap), page_(static_cast<uint64_t>(getpagesize())), copy_(kPieceBytes) {
    // Once from end to end takes fewer than two per piece; the rest is for going on after what cannot be followed.
    constexpr uint64_t kMoreCopies = 1024;
    copies_left_ = (heap.end - heap.start) / kPieceBytes * 2 + kMoreCopies;
    chunk_.address = arena.first_chunk(heap);
}

std::optional<Chunk> HeapWalk::next() {
    uint64_t at = chunk_.address + chunk_.bytes;
    chunk_ = {at, 0};
    if (is_end(at))
        return std::nullopt;
    auto bytes = chunk_bytes_at(at);
    if (!bytes) {
        // The piece may be older than the chunk before it.
        copied_bytes_ = 0;
        bytes = chunk_bytes_at(at);
    }
    if (!bytes)
        return resume();
    chunk_.bytes = *bytes;
    return chunk_;
}

bool HeapWalk::is_free() {
    // The chunk behind knows. It may lie far from the piece that is copied, which beginning() still needs.
    uint64_t behind = chunk_.address + chunk_.bytes;
    bool is_copied = behind >= copy_start_ && behind + kChunkHeaderBytes <= copy_start_ + copied_bytes_;
    auto header = is_copied ? header_at(behind) : memory_.read_value<ChunkHeader>(behind);
    return header && !(header->size & ChunkHeader::kPreviousInUse) && header->previous_bytes == chunk_.bytes;
}

std::span<const uint8_t> HeapWalk::beginning() {
    constexpr size_t kBeginning = 1024;
    std::span<const uint8_t> bytes = copy_of(chunk_.address, kBeginning);
    return bytes.subspan(std::min<size_t>(kChunkHeaderBytes, bytes.size()));
}

std::span<const uint8_t> HeapWalk::copy_of(uint64_t address, size_t size) {
    if (address < copy_start_ || address + size > copy_start_ + copied_bytes_) {
        if (!copies_left_)
            return {};
        copies_left_--;
        copy_start_ = address / page_ * page_;
        copied_bytes_ = std::min<uint64_t>(kPieceBytes, (heap_.end + page_ - 1) / page_ * page_ - copy_start_);
        present_ = memory_.copy(copy_start_, copy_start_ + copied_bytes_, copy_.data()).value_or(std::vector<bool>());
    }
    size_t offset = address - copy_start_, length = 0;
    while (length < size && offset + length < copied_bytes_ && (offset + length) / page_ < present_.size() &&
           present_[(offset + length) / page_])
        length = std::min<size_t>(size, ((offset + length) / page_ + 1) * page_ - offset);
    return {copy_.data() + offset, length};
}

std::optional<ChunkHeader> HeapWalk::header_at(uint64_t address) {
    ChunkHeader header;
    std::span<const uint8_t> bytes = copy_of(address, sizeof(header));
    if (bytes.size() < sizeof(header))
        return std::nullopt;
    std::memcpy(&header, bytes.data(), sizeof(header));
    return header;
}

std::optional<uint64_t> HeapWalk::chunk_bytes_at(uint64_t address) {
    auto header = header_at(address);
    if (!header || header->size & ChunkHeader::kIsMapped ||
        (arena_.is_main && header->size & ChunkHeader::kNotMainArena))
        return std::nullopt;
    uint64_t top = arena_.top.address, bytes = header->bytes();
    uint64_t end = address < top && top < heap_.end ? top : heap_.end;
    if (bytes < kMinChunk || bytes % kChunkAlignment || bytes > end - address)
        return std::nullopt;
    return bytes;
}

bool HeapWalk::is_end(uint64_t address) {
    if (address == arena_.top.address || address + kChunkHeaderBytes > heap_.end)
        return true;
    // A heap that another one follows ends with one or two that are too small to be chunks.
    if (heap_.end - address > kMinChunk + kChunkHeaderBytes)
        return false;
    auto header = header_at(address);
    return header && header->bytes() <= kChunkHeaderBytes;
}

bool HeapWalk::chunks_follow(uint64_t address) {
    constexpr int kInARow = 16;
    for (int i = 0; i < kInARow; i++) {
        auto bytes = chunk_bytes_at(address);
        if (!bytes)
            return false;
        address += *bytes;
        if (is_end(address))
            break;
    }
    return true;
}

std::optional<Chunk> HeapWalk::resume() {
    uint64_t torn = chunk_.address, at = torn;
    while (places_left_-- > 0) {
        // A page that is not in memory has none.
        at = copy_of(at, 1).empty() ? (at / page_ + 1) * page_ : at + kChunkAlignment;
        if (is_end(at))
            break;
        if (!chunks_follow(at))
            continue;
        torn_bytes_ += at - torn;
        chunk_ = {at, chunk_bytes_at(at).value_or(0)};
        return chunk_;
    }
    at = places_left_ > 0 ? std::min(at, heap_.end) : heap_.end;
    torn_bytes_ += at - torn;
    chunk_ = {at, 0};
    return std::nullopt;
}

}  // namespace memtrace
