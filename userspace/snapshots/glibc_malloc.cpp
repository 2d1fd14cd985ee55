// SPDX-License-Identifier: Apache-2.0
#include "snapshots/glibc_malloc.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <iterator>

namespace memtrace {

namespace {

constexpr size_t kBins = 127;            // NBINS - 1; the first is the unsorted one
constexpr uint64_t kAfterBins = 2088;    // from bins to the end of struct malloc_state
constexpr size_t kFastBins = 10;         // NFASTBINS
constexpr uint64_t kFastBinsAt = 16;     // fastbinsY, in struct malloc_state
constexpr uint64_t kHeapMax = 64 << 20;  // HEAP_MAX_SIZE: 2 * DEFAULT_MMAP_THRESHOLD_MAX
constexpr uint64_t kMinChunk = 32;       // MINSIZE
constexpr uint64_t kSizeFlags = 7;
constexpr size_t kMaxArenas = 4096;
constexpr size_t kMaxHeaps = 1024;      // of an arena
constexpr size_t kMaxChunks = 8 << 20;  // free ones, of all arenas: 128 MiB of ours

// struct malloc_state from bins on; the same from 2.31 to 2.43.
struct ArenaTail {
    uint64_t bins[2 * kBins];
    uint32_t bin_map[4];
    uint64_t next;
    uint64_t next_free;
    uint64_t attached_threads;
    uint64_t system_bytes;
};
static_assert(offsetof(ArenaTail, next) == 2048 && offsetof(ArenaTail, system_bytes) == 2072);

// struct heap_info, its beginning.
struct HeapHeader {
    uint64_t arena;
    uint64_t previous;
    uint64_t bytes;
};

struct ChunkHeader {
    uint64_t previous_bytes;
    uint64_t size;  // and three flags
    uint64_t forward;
    uint64_t backward;

    uint64_t bytes() const {
        return size & ~kSizeFlags;
    }
};

// Where things are that have moved: by the shape of struct malloc_par, in bytes from its start.
struct Layout {
    uint64_t bins;             // in struct malloc_state; top lies 16 bytes before, and kAfterBins bytes follow
    uint64_t mapped_chunks;    // n_mmaps, an int; n_mmaps_max follows
    uint64_t fixed_threshold;  // no_dyn_threshold, an int
    uint64_t mapped_bytes;     // mmapped_mem
    uint64_t heap_start;       // sbrk_base
    bool has_fast_bins;
};
constexpr Layout kLayouts[] = {
    {24, 68, 80, 88, 104, false},  // 2.43
    {112, 60, 72, 80, 96, true},   // 2.35 to 2.42
    {112, 40, 52, 56, 72, true},   // 2.26 to 2.34
};

bool may_be_chunk(uint64_t address) {
    return address >= 4096 && address % 16 == 0 && address >> 57 == 0;
}

// Whether the lists agree at both ends.
bool confirm_bins(Guesses &guesses, uint64_t bins, const uint64_t *words) {
    for (size_t i = 0; i < kBins; i++) {
        uint64_t head = bins + 16 * i - 16, first = words[2 * i], last = words[2 * i + 1];
        if (first == head && last == head)
            continue;
        auto front = guesses.read<ChunkHeader>(first), back = guesses.read<ChunkHeader>(last);
        if (!front || !back || front->backward != head || back->forward != head)
            return false;
    }
    return true;
}

template <typename T>
T read_at(const DataCopy &data, size_t word, uint64_t offset) {
    T value;
    std::memcpy(&value, reinterpret_cast<const uint8_t *>(&data.words[word]) + offset, sizeof(value));
    return value;
}

// struct malloc_par: arena_test is 8 in 64-bit programs, or set to 2; n_mmaps_max is 65,536; and it knows the heap.
const Layout *find_parameters(const std::vector<DataCopy> &all, uint64_t heap_start, GlibcParameters &parameters) {
    constexpr size_t kWords = 18;
    for (const DataCopy &data : all) {
        for (size_t word = 0; word + kWords < data.words.size(); word++) {
            uint64_t arena_test = data.words[word + 3];
            if (arena_test != 8 && arena_test != 2)
                continue;
            for (const Layout &layout : kLayouts) {
                if (read_at<uint64_t>(data, word, layout.heap_start) != heap_start ||
                    read_at<int32_t>(data, word, layout.mapped_chunks + 4) != 65536)
                    continue;
                parameters.trim_threshold = data.words[word];
                parameters.mmap_threshold = data.words[word + 2];
                parameters.thresholds_move = read_at<int32_t>(data, word, layout.fixed_threshold) == 0;
                parameters.mapped_chunks = read_at<uint32_t>(data, word, layout.mapped_chunks);
                parameters.mapped_bytes = read_at<uint64_t>(data, word, layout.mapped_bytes);
                return &layout;
            }
        }
    }
    return nullptr;
}

class ArenaReader {
  public:
    ArenaReader(const ResidentMemory &memory, const Layout &layout, const GlibcHints &hints, GlibcSnapshot &snapshot)
        : memory_(memory), layout_(layout), hints_(hints), snapshot_(snapshot) {}

    // Adds the arena; gives the next one's address, or 0 where it cannot be read.
    uint64_t read(uint64_t address, bool is_main) {
        auto tail = memory_.read_value<ArenaTail>(address + layout_.bins);
        auto top = memory_.read_value<uint64_t>(address + layout_.bins - 16);
        if (!tail || !top)
            return 0;
        GlibcArena arena;
        arena.address = address;
        arena.is_main = is_main;
        arena.system_bytes = tail->system_bytes;
        arena.state_bytes = layout_.bins + kAfterBins;
        arena.top.address = *top;
        // Before its first chunk, top is the bins' own start.
        if (*top != address + layout_.bins - 16) {
            auto header = memory_.read_value<ChunkHeader>(*top);
            arena.top.bytes = header ? header->bytes() : 0;
            if (!header)
                snapshot_.complete = false;
        }
        if (is_main)
            arena.heaps.push_back({hints_.heap.start, std::clamp(arena.top.address + arena.top.bytes, hints_.heap.start,
                                                                 hints_.heap.end)});
        else
            read_heaps(arena);
        for (size_t i = 0; i < kBins; i++)
            read_bin(address + layout_.bins + 16 * i - 16, tail->bins[2 * i], arena);
        if (layout_.has_fast_bins)
            read_fast_bins(arena);
        drop_overlaps(arena.bins);
        drop_overlaps(arena.fast);
        snapshot_.arenas.push_back(std::move(arena));
        return tail->next;
    }

  private:
    void read_heaps(GlibcArena &arena) {
        uint64_t heap = arena.top.address / kHeapMax * kHeapMax;
        while (heap && arena.heaps.size() < kMaxHeaps) {
            auto header = memory_.read_value<HeapHeader>(heap);
            if (!header || header->arena != arena.address || header->bytes > kHeapMax) {
                snapshot_.complete = false;
                break;
            }
            arena.heaps.push_back({heap, heap + header->bytes});
            heap = header->previous;
        }
        std::sort(arena.heaps.begin(), arena.heaps.end(),
                  [](const AddressRange &a, const AddressRange &b) { return a.start < b.start; });
    }

    void read_bin(uint64_t head, uint64_t chunk, GlibcArena &arena) {
        uint64_t before = head;
        while (chunk != head) {
            auto header = memory_.read_value<ChunkHeader>(chunk);
            if (!header || header->backward != before || header->bytes() < kMinChunk || chunks_ == kMaxChunks ||
                !arena.heap_of({chunk, header->bytes()})) {
                snapshot_.complete = false;
                return;
            }
            arena.bins.push_back({chunk, header->bytes()});
            chunks_++;
            before = chunk;
            chunk = header->forward;
        }
    }

    // Sorts by address. What overlaps is a contradiction, and would have us count the same pages without end.
    void drop_overlaps(std::vector<Chunk> &chunks) {
        std::sort(chunks.begin(), chunks.end(), [](const Chunk &a, const Chunk &b) { return a.address < b.address; });
        uint64_t end = 0;
        auto overlaps = [&end](const Chunk &chunk) {
            if (chunk.address < end)
                return true;
            end = chunk.address + chunk.bytes;
            return false;
        };
        std::vector<Chunk> apart;
        std::remove_copy_if(chunks.begin(), chunks.end(), std::back_inserter(apart), overlaps);
        if (apart.size() != chunks.size())
            snapshot_.complete = false;
        chunks = std::move(apart);
    }

    void read_fast_bins(GlibcArena &arena) {
        for (size_t i = 0; i < kFastBins; i++) {
            uint64_t chunk = memory_.read_value<uint64_t>(arena.address + kFastBinsAt + 8 * i).value_or(0);
            while (chunk) {
                auto header = memory_.read_value<ChunkHeader>(chunk);
                if (!header || chunks_ == kMaxChunks || !arena.heap_of({chunk, header->bytes()})) {
                    snapshot_.complete = false;
                    break;
                }
                arena.fast.push_back({chunk, header->bytes()});
                chunks_++;
                uint64_t mask = hints_.links_are_plain ? 0 : (chunk + offsetof(ChunkHeader, forward)) >> 12;
                chunk = header->forward ^ mask;  // REVEAL_PTR
            }
        }
    }

    const ResidentMemory &memory_;
    const Layout &layout_;
    const GlibcHints &hints_;
    GlibcSnapshot &snapshot_;
    size_t chunks_ = 0;
};

uint64_t add_up(const std::vector<Chunk> &chunks) {
    uint64_t sum = 0;
    for (const Chunk &chunk : chunks)
        sum += chunk.bytes;
    return sum;
}

// Free chunks by address, those that touch as one: malloc_consolidate(). One that touches top becomes part of it.
std::vector<Chunk> join_free(const GlibcArena &arena, Chunk &top) {
    std::vector<Chunk> all, joined;
    std::merge(arena.bins.begin(), arena.bins.end(), arena.fast.begin(), arena.fast.end(), std::back_inserter(all),
               [](const Chunk &a, const Chunk &b) { return a.address < b.address; });
    for (const Chunk &chunk : all) {
        if (!joined.empty() && joined.back().address + joined.back().bytes == chunk.address)
            joined.back().bytes += chunk.bytes;
        else
            joined.push_back(chunk);
    }
    top = arena.top;
    auto below = std::find_if(joined.begin(), joined.end(),
                              [&top](const Chunk &chunk) { return chunk.address + chunk.bytes == top.address; });
    if (below != joined.end()) {
        top = {below->address, below->bytes + top.bytes};
        joined.erase(below);
    }
    return joined;
}

void measure_resident(const ResidentMemory &memory, GlibcArena &arena) {
    // mtrim() and systrim(), malloc/malloc.c.
    constexpr uint64_t kChunkStruct = 48;  // sizeof(struct malloc_chunk)
    auto page = static_cast<uint64_t>(getpagesize());
    GlibcResident &resident = arena.resident;
    uint64_t all = 0;
    std::vector<ResidentRange> heaps;
    for (const AddressRange &heap : arena.heaps) {
        heaps.emplace_back(memory, heap.start, heap.end);
        all += heaps.back().bytes(heap.start, heap.end);
    }
    auto in_memory = [&](const Chunk &within, uint64_t start, uint64_t end) {
        auto heap = arena.heap_of(within);
        return heap ? heaps[*heap].bytes(start, end) : 0;
    };
    for (const std::vector<Chunk> *chunks : {&arena.bins, &arena.fast})
        for (const Chunk &chunk : *chunks)
            resident.free += in_memory(chunk, chunk.address, chunk.address + chunk.bytes);
    resident.top = in_memory(arena.top, arena.top.address, arena.top.address + arena.top.bytes);
    Chunk top;
    for (const Chunk &chunk : join_free(arena, top)) {
        uint64_t end = chunk.address + chunk.bytes;
        FreeArea area{chunk, in_memory(chunk, chunk.address, end),
                      in_memory(chunk, (chunk.address + kChunkStruct + page - 1) / page * page, end / page * page)};
        resident.trimmable += area.trimmable_bytes;
        if (chunk.bytes >= page)
            arena.areas.push_back(area);
    }
    uint64_t end = top.address + top.bytes;
    arena.free_end = {top, in_memory(top, top.address, end), 0};
    if (arena.is_main && top.bytes > kMinChunk + 1)
        arena.free_end.trimmable_bytes = in_memory(top, end - (top.bytes - kMinChunk - 1) / page * page, end);
    resident.trimmable += arena.free_end.trimmable_bytes;
    resident.live = all - std::min(all, resident.free + resident.top);
}

// A heap's memory, read in large pieces.
class HeapWindow {
  public:
    HeapWindow(const ResidentMemory &memory, const AddressRange &heap)
        : memory_(memory), end_(heap.end), copy_(kBytes) {}

    // At most `size` bytes from `address` on: fewer where the heap ends, or what is in memory does.
    std::span<const uint8_t> at(uint64_t address, size_t size) {
        if (address < start_ || address + size > start_ + copied_) {
            start_ = address / page_ * page_;
            copied_ = std::min<uint64_t>(kBytes, (end_ + page_ - 1) / page_ * page_ - start_);
            present_ = memory_.copy(start_, start_ + copied_, copy_.data()).value_or(std::vector<bool>());
        }
        size_t offset = address - start_, length = 0;
        while (length < size && offset + length < copied_ && (offset + length) / page_ < present_.size() &&
               present_[(offset + length) / page_])
            length = std::min<size_t>(size, ((offset + length) / page_ + 1) * page_ - offset);
        return {copy_.data() + offset, length};
    }

  private:
    static constexpr size_t kBytes = 1 << 20;

    const ResidentMemory &memory_;
    const uint64_t page_ = static_cast<uint64_t>(getpagesize());
    uint64_t end_;
    uint64_t start_ = 0;
    uint64_t copied_ = 0;
    std::vector<uint8_t> copy_;
    std::vector<bool> present_;
};

}  // namespace

uint64_t GlibcArena::first_chunk(const AddressRange &heap) const {
    constexpr uint64_t kAlignment = 16;  // MALLOC_ALIGNMENT
    // A thread's heap begins with struct heap_info, which in the first is followed by the arena itself.
    uint64_t at = heap.start;
    if (!is_main)
        at = address / kHeapMax * kHeapMax == heap.start ? address + state_bytes : heap.start + address % kHeapMax;
    return (at + kAlignment - 1) / kAlignment * kAlignment;
}

bool visit_live_chunks(const ResidentMemory &memory, const GlibcArena &arena, const ChunkVisitor &visit) {
    constexpr size_t kHeader = 16, kBeginning = 1024;
    bool complete = true;
    auto bin = arena.bins.begin(), fast = arena.fast.begin();
    // Whether the next of these is at `address`; those below are passed.
    auto is_next = [](auto &next, auto end, uint64_t address) {
        while (next != end && next->address < address)
            ++next;
        return next != end && next->address == address;
    };
    for (const AddressRange &heap : arena.heaps) {
        HeapWindow window(memory, heap);
        ResidentRange resident(memory, heap.start, heap.end);
        uint64_t at = arena.first_chunk(heap);
        while (at != arena.top.address && at + kHeader <= heap.end) {
            std::span<const uint8_t> bytes = window.at(at, kBeginning);
            uint64_t size = 0;
            if (bytes.size() >= kHeader)
                std::memcpy(&size, &bytes[8], sizeof(size));
            size &= ~kSizeFlags;
            if (size < kMinChunk || size % 16 || size > heap.end - at) {
                // A heap that another one follows ends with a chunk too small to be one.
                complete = complete && size == kHeader;
                break;
            }
            if (!is_next(bin, arena.bins.end(), at) && !is_next(fast, arena.fast.end(), at))
                visit({{at, size}, bytes.subspan(kHeader), resident.bytes(at, at + size)});
            at += size;
        }
    }
    return complete;
}

std::vector<Chunk> find_mapped_chunks(const ResidentMemory &memory, std::span<const AddressRange> mappings,
                                      std::span<const AddressRange> others) {
    constexpr uint64_t kIsMapped = 2;
    constexpr size_t kMaxChunksFound = 1 << 16;  // vm.max_map_count, and DEFAULT_MMAP_MAX
    int left = 200'000;                          // pages that are looked at, of what is neither
    auto page = static_cast<uint64_t>(getpagesize());
    std::vector<Chunk> chunks;
    auto other = others.begin();
    for (const AddressRange &mapping : mappings) {
        for (uint64_t at = mapping.start; at < mapping.end && left > 0 && chunks.size() < kMaxChunksFound;) {
            while (other != others.end() && other->end <= at)
                ++other;
            if (other != others.end() && other->start <= at) {
                at = (other->end + page - 1) / page * page;
                continue;
            }
            left--;
            std::array<uint64_t, 2> header{};
            uint64_t size = 0;
            if (memory.read(at, header.data(), sizeof(header)) && !header[0] && (header[1] & kSizeFlags) == kIsMapped)
                size = header[1] & ~kSizeFlags;
            // In 2.43 the size is without the header.
            uint64_t whole = size % page == page - 16 ? size + 16 : size;
            if (whole && whole % page == 0 && whole <= mapping.end - at) {
                chunks.push_back({at, whole});
                at += whole;
            } else {
                at += page;
            }
        }
    }
    return chunks;
}

uint64_t GlibcArena::bin_bytes() const {
    return add_up(bins);
}

uint64_t GlibcArena::fast_bytes() const {
    return add_up(fast);
}

uint64_t GlibcSnapshot::trimmable_bytes() const {
    uint64_t sum = 0;
    for (const GlibcArena &arena : arenas)
        sum += arena.resident.trimmable;
    return sum;
}

std::optional<size_t> GlibcArena::heap_of(const Chunk &chunk) const {
    auto above = std::upper_bound(heaps.begin(), heaps.end(), chunk.address,
                                  [](uint64_t at, const AddressRange &heap) { return at < heap.start; });
    if (above == heaps.begin())
        return std::nullopt;
    const AddressRange &heap = *std::prev(above);
    if (chunk.address >= heap.end || chunk.bytes > heap.end - chunk.address)
        return std::nullopt;
    return static_cast<size_t>(above - heaps.begin()) - 1;
}

std::optional<GlibcSnapshot> read_glibc_malloc(const ResidentMemory &memory, std::span<const AddressRange> ranges,
                                               const GlibcHints &hints) {
    std::vector<DataCopy> all = copy_data(memory, ranges);
    GlibcSnapshot snapshot;
    const Layout *layout = find_parameters(all, hints.heap.start, snapshot.parameters);
    if (!layout)
        return std::nullopt;
    Guesses guesses(memory);
    uint64_t bins = 0;
    for (const DataCopy &data : all) {
        auto confirm = [&](size_t word) {
            bins = data.address_of(word);
            return confirm_bins(guesses, bins, &data.words[word]);
        };
        if (find_list_heads(data, kBins, may_be_chunk, confirm))
            break;
        bins = 0;
    }
    if (!bins)
        return std::nullopt;
    ArenaReader reader(memory, *layout, hints, snapshot);
    uint64_t main = bins - layout->bins, next = reader.read(main, true);
    while (next && next != main && snapshot.arenas.size() < kMaxArenas)
        next = reader.read(next, false);
    snapshot.complete = snapshot.complete && next == main;
    for (GlibcArena &arena : snapshot.arenas)
        measure_resident(memory, arena);
    return snapshot;
}

}  // namespace memtrace
