// SPDX-License-Identifier: Apache-2.0
#include "snapshots/mimalloc.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <map>
#include <set>

namespace memtrace {

namespace {

constexpr uint64_t kSegmentBytes = 32 << 20;  // MI_SEGMENT_SIZE
constexpr uint64_t kSliceBytes = 64 << 10;    // MI_SEGMENT_SLICE_SIZE
constexpr uint64_t kSlices = kSegmentBytes / kSliceBytes;
constexpr uint64_t kMaxPageBytes = 512 << 10;  // MI_MEDIUM_PAGE_SIZE: of a page of more than one block
constexpr uint64_t kInfoSlices = 1;            // the header's
constexpr uint32_t kHugeBlock = 2u << 30;      // MI_HUGE_BLOCK_SIZE: where 32 bits do not tell, the whole page
constexpr uint64_t kThreadFreeFlags = 3;       // mi_delayed_t, in the low bits of xthread_free

constexpr int kMimallocReads = 4;                  // of a segment that contradicts itself
constexpr uint64_t kMaxBytes = uint64_t{1} << 40;  // of all segments: 2 GiB of /proc/PID/pagemap
constexpr int kMaxKeys = 64;                       // that the interpreter's data are searched for
constexpr size_t kMaxMimallocHeaps = 1 << 16;
constexpr size_t kMaxDelayed = 1 << 20;
constexpr size_t kMaxClasses = 4096;  // mimalloc has 73, and multiples of a slice

// Where the fields are that have moved, in bytes: from the compiler, of Include/internal/mimalloc/mimalloc/types.h.
struct MimallocLayout {
    uint32_t commit_mask;  // in struct mi_segment_s; purge_mask lies before
    uint32_t abandoned;    // abandoned_visits, used and cookie follow
    uint32_t slices_at;    // segment_slices; segment_info_slices, kind, slice_entries, thread_id and slices follow
    uint32_t page_bytes;   // sizeof(mi_page_t)
    uint32_t used;         // in mi_page_t
    uint32_t used_bytes;
    uint32_t block_size;
    uint32_t block_size_bytes;
    uint32_t thread_free;   // xthread_free; xheap follows
    uint32_t heap_delayed;  // thread_delayed_free, in mi_heap_t
};
constexpr MimallocLayout kMimallocLayouts[] = {
    {112, 192, 224, 80, 24, 4, 28, 4, 40, 2840},  // 2.1.2: 3.13, 3.14.0
    {112, 192, 224, 96, 24, 4, 28, 4, 40, 2840},  // and without the GIL
    {120, 200, 248, 96, 32, 2, 40, 8, 56, 8},     // 2.5.2: 3.14.10, 3.15
    {120, 200, 248, 112, 32, 2, 40, 8, 56, 8},    // and without the GIL
};
constexpr size_t kHeaderBytes = 288;  // up to slices, at most
constexpr size_t kInfoBytes = kInfoSlices * kSliceBytes;

template <typename T>
T field(const uint8_t *bytes, size_t offset) {
    T value;
    std::memcpy(&value, bytes + offset, sizeof(value));
    return value;
}

struct SegmentHeader {
    uint64_t bytes = 0;
    uint64_t used = 0;  // pages
    uint64_t key = 0;   // the process's random number, by the cookie
    uint64_t slices = 0;
    uint64_t entries = 0;  // of the table of slices, whose last may stand for more
    uint64_t committed_bytes = 0;
    bool is_huge = false;
    MimallocSegment::State state = MimallocSegment::State::kOwned;
};

std::optional<SegmentHeader> parse_header(const uint8_t *bytes, uint64_t address, const MimallocLayout &layout) {
    SegmentHeader header;
    auto memory_kind = field<uint32_t>(bytes, 20);  // memid.memkind; before it lie three flags, after it two
    for (size_t flag : {16, 17, 18, 24, 25})
        if (bytes[flag] > 1)
            return std::nullopt;
    auto abandoned = field<uint64_t>(bytes, layout.abandoned);
    header.bytes = field<uint64_t>(bytes, 32);
    header.used = field<uint64_t>(bytes, layout.abandoned + 16);
    header.key = field<uint64_t>(bytes, layout.abandoned + 24) ^ address;
    header.slices = field<uint64_t>(bytes, layout.slices_at);
    auto info_slices = field<uint64_t>(bytes, layout.slices_at + 8);
    auto kind = field<uint32_t>(bytes, layout.slices_at + 16);
    header.entries = field<uint64_t>(bytes, layout.slices_at + 24);
    auto thread = field<uint64_t>(bytes, layout.slices_at + 32);
    header.is_huge = kind == 1;
    if (memory_kind < 1 || memory_kind > 6 || kind > 1 || info_slices != kInfoSlices ||
        header.bytes / kSliceBytes != header.slices || header.bytes % kSliceBytes || header.bytes > kMaxBytes ||
        header.slices <= kInfoSlices || (!header.is_huge && header.slices != kSlices) ||
        header.entries != std::min(header.slices, kSlices) || abandoned > header.used ||
        header.used >= (header.is_huge ? 2 : kSlices))
        return std::nullopt;
    uint64_t committed = 0;
    for (size_t i = 0; i < kSlices / 64; i++)
        committed += static_cast<uint64_t>(std::popcount(field<uint64_t>(bytes, layout.commit_mask + 8 * i)));
    header.committed_bytes = header.bytes / kSlices * committed;
    if (!thread)
        header.state = header.used ? MimallocSegment::State::kAbandoned : MimallocSegment::State::kFreed;
    return header;
}

struct Page {
    uint64_t address = 0;  // of its slices; its first block may begin later
    uint64_t bytes = 0;
    uint64_t block_bytes = 0;  // 0: a free span
    uint32_t capacity = 0;
    uint32_t reserved = 0;  // blocks that fit
    uint64_t used = 0;
    uint64_t thread_free = 0;  // the first of its blocks that other threads have freed, or 0
    uint64_t heap = 0;
};

class SegmentReader {
  public:
    SegmentReader(const ResidentMemory &memory, std::span<const AddressRange> data)
        : memory_(memory), guesses_(memory), data_(copy_data(memory, data)) {}

    void find_segments(const AddressRange &range) {
        uint64_t at = std::max(range.start, end_of_last_);
        for (at = (at + kSegmentBytes - 1) / kSegmentBytes * kSegmentBytes; at < range.end; at += kSegmentBytes) {
            auto header = read_header(at);
            if (!header)
                continue;
            if (header->bytes > kMaxBytes - found_bytes_) {
                snapshot_.torn_segments++;
                continue;
            }
            found_bytes_ += header->bytes;
            found_.push_back(at);
            end_of_last_ = at + kSegmentBytes;
            // What lies in a huge block is its owner's, whatever it looks like.
            if (header->is_huge && header->state != MimallocSegment::State::kFreed) {
                end_of_last_ = at + header->bytes;
                at = (end_of_last_ - 1) / kSegmentBytes * kSegmentBytes;
            }
        }
    }

    std::optional<MimallocSnapshot> read() {
        if (found_.empty())
            return std::nullopt;
        find_delayed();
        for (size_t i = 0; i < found_.size(); i++)
            read_segment(found_[i], i + 1 < found_.size() ? found_[i + 1] : UINT64_MAX);
        for (const auto &[size, pages] : classes_)
            snapshot_.classes.push_back(pages);
        return std::move(snapshot_);
    }

  private:
    // The first segment decides on the layout and the key.
    std::optional<SegmentHeader> read_header(uint64_t address) {
        std::array<uint8_t, kHeaderBytes> bytes;
        if (!memory_.read(address, bytes.data(), bytes.size()))
            return std::nullopt;
        for (const MimallocLayout &layout : kMimallocLayouts) {
            if (layout_ && layout_ != &layout)
                continue;
            auto header = parse_header(bytes.data(), address, layout);
            if (!header || !is_own_slice(address, layout) || !is_key(header->key))
                continue;
            layout_ = &layout;
            key_ = header->key;
            return header;
        }
        return std::nullopt;
    }

    // The slice that has the header is a page of its own; and in the next row of the table begins the next page. (That
    // row's place tells builds without the GIL from others.)
    bool is_own_slice(uint64_t address, const MimallocLayout &layout) const {
        uint64_t row = address + layout.slices_at + 40;
        auto own = memory_.read_value<std::array<uint32_t, 2>>(row);
        auto next = memory_.read_value<std::array<uint32_t, 2>>(row + kInfoSlices * layout.page_bytes);
        return own && next && (*own)[0] == kInfoSlices && (*own)[1] == 0 && (*next)[0] && (*next)[1] == 0;
    }

    bool is_key(uint64_t key) {
        if (key_ || !key)
            return key_ == key && key;
        if (keys_tried_++ >= kMaxKeys)
            return false;
        return std::any_of(data_.begin(), data_.end(), [&](const DataCopy &data) {
            return std::find(data.words.begin(), data.words.end(), key) != data.words.end();
        });
    }

    // A copy of the header and the table; zeroes where they were never touched.
    bool copy_info(uint64_t address) {
        info_.assign(kInfoBytes, 0);
        auto present = memory_.copy(address, address + kInfoBytes, info_.data());
        return present && present->front();
    }

    // The pages and spans of the segment in info_. Null where the rows contradict each other.
    std::optional<std::vector<Page>> parse_pages(uint64_t address, const SegmentHeader &header) const {
        std::vector<Page> pages;
        // Its spans are then marked as if in use.
        if (header.state == MimallocSegment::State::kFreed)
            return {{Page{.address = address + kInfoBytes, .bytes = header.bytes - kInfoBytes}}};
        uint64_t used = 0, index = kInfoSlices;
        while (index < header.entries) {
            const uint8_t *row = &info_[layout_->slices_at + 40 + index * layout_->page_bytes];
            Page page;
            uint64_t slices = field<uint32_t>(row, 0);
            if (!slices || field<uint32_t>(row, 4) || slices > header.slices - index)
                return std::nullopt;
            page.address = address + index * kSliceBytes;
            page.bytes = slices * kSliceBytes;
            page.capacity = field<uint16_t>(row, 10);
            page.reserved = field<uint16_t>(row, 12);
            page.used =
                layout_->used_bytes == 2 ? field<uint16_t>(row, layout_->used) : field<uint32_t>(row, layout_->used);
            page.block_bytes = layout_->block_size_bytes == 8 ? field<uint64_t>(row, layout_->block_size)
                                                              : field<uint32_t>(row, layout_->block_size);
            if (layout_->block_size_bytes == 4 && page.block_bytes >= kHugeBlock)
                page.block_bytes = page.bytes;
            page.thread_free = field<uint64_t>(row, layout_->thread_free) & ~kThreadFreeFlags;
            page.heap = field<uint64_t>(row, layout_->thread_free + 8);
            used += page.block_bytes != 0;
            pages.push_back(page);
            index += slices;
        }
        // A huge page has more slices than the table has rows.
        bool is_whole = header.is_huge ? index == header.slices : index == header.entries;
        if (!is_whole || used != header.used)
            return std::nullopt;
        return pages;
    }

    // Blocks that another thread has freed count as used until the page's own thread looks. Most are in the page's own
    // list, but the first of a full page is in a list of its heap.
    void find_delayed() {
        std::set<uint64_t> heaps;
        for (uint64_t address : found_) {
            if (!copy_info(address))
                continue;
            auto header = parse_header(info_.data(), address, *layout_);
            if (auto pages = header ? parse_pages(address, *header) : std::nullopt)
                for (const Page &page : *pages)
                    if (page.block_bytes && page.heap && heaps.size() < kMaxMimallocHeaps)
                        heaps.insert(page.heap);
        }
        for (uint64_t heap : heaps) {
            uint64_t block = guesses_.read<uint64_t>(heap + layout_->heap_delayed).value_or(0);
            while (block && delayed_.size() < kMaxDelayed) {
                delayed_.push_back(block);
                block = guesses_.read<uint64_t>(block).value_or(0);
            }
        }
        std::sort(delayed_.begin(), delayed_.end());
        delayed_.erase(std::unique(delayed_.begin(), delayed_.end()), delayed_.end());
    }

    // How many of its blocks are in use. Null where the page contradicts itself.
    std::optional<uint64_t> count_live(const Page &page) {
        if (!page.reserved || page.capacity > page.reserved || page.used > page.capacity ||
            page.block_bytes > page.bytes / page.reserved)
            return std::nullopt;
        auto first = std::lower_bound(delayed_.begin(), delayed_.end(), page.address);
        auto last = std::lower_bound(first, delayed_.end(), page.address + page.bytes);
        auto freed = static_cast<uint64_t>(last - first);
        if (page.reserved == 1) {
            freed += page.thread_free != 0;
        } else if (page.thread_free) {
            if (page.bytes > kMaxPageBytes)
                return std::nullopt;
            blocks_.resize(page.bytes);
            if (!memory_.copy(page.address, page.address + page.bytes, blocks_.data()))
                return std::nullopt;
            for (uint64_t block = page.thread_free; block && freed <= page.used; freed++) {
                uint64_t at = block - page.address;
                if (at > page.bytes - sizeof(block))
                    return std::nullopt;
                block = field<uint64_t>(blocks_.data(), at);
            }
        }
        return freed <= page.used ? std::optional(page.used - freed) : std::nullopt;
    }

    // `next` is where the next one begins: parts of a freed one may be in use again.
    void read_segment(uint64_t address, uint64_t next) {
        std::optional<SegmentHeader> header;
        std::optional<std::vector<Page>> pages;
        std::vector<std::optional<uint64_t>> live;
        for (int attempt = 0; attempt < kMimallocReads; attempt++) {
            if (!copy_info(address))
                return;  // it went meanwhile
            header = parse_header(info_.data(), address, *layout_);
            pages = header && header->key == key_ ? parse_pages(address, *header) : std::nullopt;
            if (!pages)
                continue;
            live.clear();
            for (const Page &page : *pages)
                live.push_back(page.block_bytes ? count_live(page) : 0);
            if (std::find(live.begin(), live.end(), std::nullopt) == live.end())
                break;
        }
        if (!pages) {
            snapshot_.torn_segments++;
            return;
        }
        ResidentRange range(memory_, address, std::min(address + header->bytes, next));
        MimallocSegment segment{.address = address,
                                .bytes = header->bytes,
                                .state = header->state,
                                .is_huge = header->is_huge,
                                .committed_bytes = header->committed_bytes};
        segment.resident_bytes = range.bytes(address, address + header->bytes);
        uint64_t headers = range.bytes(address, address + kInfoBytes), live_resident = 0;
        for (size_t i = 0; i < pages->size(); i++) {
            const Page &page = (*pages)[i];
            if (!page.block_bytes) {
                segment.free_span_bytes += page.bytes;
                continue;
            }
            segment.pages++;
            if (!live[i] || (classes_.size() >= kMaxClasses && !classes_.contains(page.block_bytes))) {
                snapshot_.torn_pages++;
                continue;
            }
            MimallocPages &sizes = classes_[page.block_bytes];
            sizes.block_bytes = page.block_bytes;
            sizes.pages++;
            sizes.live_blocks += *live[i];
            sizes.capacity_blocks += page.capacity;
            uint64_t live_bytes = *live[i] * page.block_bytes;
            segment.live_blocks += *live[i];
            segment.live_bytes += live_bytes;
            live_resident += std::min(live_bytes, range.bytes(page.address, page.address + page.bytes));
        }
        snapshot_.resident.headers += headers;
        snapshot_.resident.live += live_resident;
        snapshot_.resident.free += segment.resident_bytes - headers - live_resident;
        snapshot_.segments.push_back(segment);
    }

    const ResidentMemory &memory_;
    Guesses guesses_;
    const std::vector<DataCopy> data_;
    const MimallocLayout *layout_ = nullptr;  // of this process, with key_, once one segment was found
    uint64_t key_ = 0;
    int keys_tried_ = 0;
    std::vector<uint64_t> found_;  // segments, by address; none overlaps another
    uint64_t found_bytes_ = 0;
    uint64_t end_of_last_ = 0;
    std::vector<uint64_t> delayed_;  // blocks in heaps' lists of freed ones, by address
    std::map<uint64_t, MimallocPages> classes_;
    std::vector<uint8_t> info_;    // of a segment
    std::vector<uint8_t> blocks_;  // of a page
    MimallocSnapshot snapshot_;
};

}  // namespace

uint64_t MimallocSnapshot::live_blocks() const {
    return add_up(segments, [](const MimallocSegment &s) { return s.live_blocks; });
}

uint64_t MimallocSnapshot::live_bytes() const {
    return add_up(segments, [](const MimallocSegment &s) { return s.live_bytes; });
}

uint64_t MimallocSnapshot::free_block_bytes() const {
    return add_up(classes, [](const MimallocPages &p) { return (p.capacity_blocks - p.live_blocks) * p.block_bytes; });
}

uint64_t MimallocSnapshot::free_span_bytes() const {
    return add_up(segments, [](const MimallocSegment &s) { return s.free_span_bytes; });
}

std::optional<MimallocSnapshot> read_mimalloc(const ResidentMemory &memory, std::span<const AddressRange> data,
                                              std::span<const AddressRange> anonymous) {
    SegmentReader reader(memory, data);
    for (const AddressRange &range : anonymous)
        reader.find_segments(range);
    return reader.read();
}

}  // namespace memtrace
