// SPDX-License-Identifier: Apache-2.0
#include "snapshots/glibc_malloc.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <iterator>
#include <numeric>
#include <set>

#include "snapshots/glibc_heap_walk.h"

namespace memtrace {

namespace {

constexpr size_t kBins = 127;            // NBINS - 1; the first is the unsorted one
constexpr uint64_t kAfterBins = 2088;    // from bins to the end of struct malloc_state
constexpr size_t kFastBins = 10;         // NFASTBINS
constexpr uint64_t kFastBinsAt = 16;     // fastbinsY, in struct malloc_state
constexpr uint64_t kHeapMax = 64 << 20;  // HEAP_MAX_SIZE: 2 * DEFAULT_MMAP_THRESHOLD_MAX
constexpr size_t kMaxArenas = 4096;
constexpr size_t kMaxHeaps = 1024;            // of an arena
constexpr uint64_t kMaxFastChunks = 8 << 20;  // of an arena: 64 MiB of ours

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

// The links of a free chunk (struct malloc_chunk).
struct FreeLinks {
    uint64_t forward;
    uint64_t backward;
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

constexpr size_t kParameterWords = 18;

bool may_be_chunk(uint64_t address) {
    return may_be_address(address) && address % 16 == 0;
}

// Whether most lists agree at both ends: all do in a process that stands still, and a busy one changes some meanwhile.
bool confirm_bins(Guesses &guesses, uint64_t bins, const uint64_t *words) {
    size_t may_differ = kBins / 4;
    for (size_t i = 0; i < kBins; i++) {
        uint64_t head = bins + 16 * i - 16, first = words[2 * i], last = words[2 * i + 1];
        if (first == head && last == head)
            continue;
        auto front = guesses.read<FreeLinks>(first + kChunkHeaderBytes);
        auto back = guesses.read<FreeLinks>(last + kChunkHeaderBytes);
        bool agree = front && back && front->backward == head && back->forward == head;
        if (!agree && !may_differ--)
            return false;
    }
    return true;
}

// Whether each arena's next leads back to this one. So it does not where bins seem to begin one list off.
bool confirm_ring(Guesses &guesses, uint64_t arena, const Layout &layout) {
    uint64_t next = arena;
    for (size_t i = 0; i < kMaxArenas; i++) {
        next = guesses.read<uint64_t>(next + layout.bins + offsetof(ArenaTail, next)).value_or(0);
        if (!next || next == arena)
            break;
    }
    return next == arena;
}

template <typename T>
T read_at(const uint64_t *words, uint64_t offset) {
    T value;
    std::memcpy(&value, reinterpret_cast<const uint8_t *>(words) + offset, sizeof(value));
    return value;
}

// struct malloc_par: arena_test is 8 in 64-bit programs, or set to 2; n_mmaps_max is 65,536; and it knows the heap.
bool find_parameters(const std::vector<DataCopy> &all, uint64_t heap_start, GlibcPlace &place) {
    for (const DataCopy &data : all) {
        for (size_t word = 0; word + kParameterWords < data.words.size(); word++) {
            const uint64_t *words = &data.words[word];
            if (words[3] != 8 && words[3] != 2)
                continue;
            for (size_t i = 0; i < std::size(kLayouts); i++) {
                if (read_at<uint64_t>(words, kLayouts[i].heap_start) != heap_start ||
                    read_at<int32_t>(words, kLayouts[i].mapped_chunks + 4) != 65536)
                    continue;
                place.layout = i;
                place.parameters = data.address_of(word);
                return true;
            }
        }
    }
    return false;
}

GlibcParameters read_parameters(const ResidentMemory &memory, const GlibcPlace &place) {
    GlibcParameters parameters;
    std::array<uint64_t, kParameterWords> words{};
    if (!memory.read(place.parameters, words.data(), sizeof(words)))
        return parameters;
    const Layout &layout = kLayouts[place.layout];
    parameters.trim_threshold = words[0];
    parameters.mmap_threshold = words[2];
    parameters.thresholds_move = read_at<int32_t>(words.data(), layout.fixed_threshold) == 0;
    parameters.mapped_chunks = read_at<uint32_t>(words.data(), layout.mapped_chunks);
    parameters.mapped_bytes = read_at<uint64_t>(words.data(), layout.mapped_bytes);
    return parameters;
}

class GlibcArenaReader {
  public:
    GlibcArenaReader(const ResidentMemory &memory, const GlibcPlace &place, const GlibcParameters &parameters,
                     const AddressRange &heap, const ChunkVisitor &visit)
        : memory_(memory),
          place_(place),
          layout_(kLayouts[place.layout]),
          parameters_(parameters),
          heap_(heap),
          visit_(visit) {}

    // Adds the arena; gives the next one's address, or 0 where it cannot be read.
    uint64_t read(uint64_t address, GlibcSnapshot &snapshot) {
        auto tail = memory_.read_value<ArenaTail>(address + layout_.bins);
        auto top = memory_.read_value<uint64_t>(address + layout_.bins - 16);
        if (!tail || !top)
            return 0;
        GlibcArena arena;
        arena.address = address;
        arena.is_main = address == place_.main_arena;
        arena.system_bytes = tail->system_bytes;
        arena.state_bytes = layout_.bins + kAfterBins;
        bool complete = read_top(arena, *top);
        complete = (arena.is_main || read_heaps(arena)) && complete;
        complete = (!layout_.has_fast_bins || read_fast_bins(arena)) && complete;
        for (const AddressRange &heap : arena.heaps)
            complete = walk(arena, heap) && complete;
        snapshot.complete = snapshot.complete && complete;
        snapshot.arenas.push_back(std::move(arena));
        return tail->next;
    }

    bool has_read_all_freed() const {
        return freed_left_ > 0;
    }

  private:
    bool read_top(GlibcArena &arena, uint64_t address) {
        arena.top.address = address;
        bool complete = true;
        // Before its first chunk, top is the bins' own start.
        if (address != arena.address + layout_.bins - 16) {
            auto header = memory_.read_value<ChunkHeader>(address);
            complete = header && address % kChunkAlignment == 0 && header->bytes() % kChunkAlignment == 0;
            arena.top.bytes = complete ? header->bytes() : 0;
        }
        arena.free_end.chunk = arena.top;
        if (arena.is_main)
            arena.heaps.push_back({heap_.start, std::clamp(address + arena.top.bytes, heap_.start, heap_.end)});
        return complete;
    }

    // Of a thread's arena, from the heap that has top on.
    bool read_heaps(GlibcArena &arena) {
        bool complete = true;
        std::vector<AddressRange> &heaps = arena.heaps;
        uint64_t heap = arena.top.address / kHeapMax * kHeapMax;
        std::set<uint64_t> seen;
        while (heap && complete && heaps.size() < kMaxHeaps) {
            if (!seen.insert(heap).second) {
                complete = false;  // they lead in a circle
                break;
            }
            auto header = memory_.read_value<HeapHeader>(heap);
            complete = header && header->arena == arena.address && header->bytes <= kHeapMax;
            if (complete) {
                heaps.push_back({heap, heap + header->bytes});
                heap = header->previous;
            }
        }
        std::sort(heaps.begin(), heaps.end(),
                  [](const AddressRange &a, const AddressRange &b) { return a.start < b.start; });
        return complete;
    }

    // Chunks that are free, though the heap has them as in use.
    bool read_fast_bins(const GlibcArena &arena) {
        bool complete = true;
        uint64_t left = 0;  // as many as fit
        for (const AddressRange &heap : arena.heaps)
            left += (heap.end - heap.start) / kMinChunk;
        left = std::min(left, kMaxFastChunks);
        fast_.clear();
        for (size_t i = 0; i < kFastBins; i++) {
            uint64_t chunk = memory_.read_value<uint64_t>(arena.address + kFastBinsAt + 8 * i).value_or(0);
            while (chunk) {
                uint64_t link = chunk + kChunkHeaderBytes;
                auto next = memory_.read_value<uint64_t>(link);
                if (!next || !left || !arena.heap_of({chunk, kMinChunk})) {
                    complete = false;
                    break;
                }
                left--;
                fast_.push_back(chunk);
                chunk = *next ^ (place_.links_are_plain ? 0 : link >> 12);  // REVEAL_PTR
            }
        }
        std::sort(fast_.begin(), fast_.end());
        return complete;
    }

    bool walk(GlibcArena &arena, const AddressRange &heap) {
        HeapWalk chunks(memory_, arena, heap);
        ResidentRange resident(memory_, heap.start, heap.end);
        auto fast = std::lower_bound(fast_.begin(), fast_.end(), heap.start);
        Chunk area;  // free chunks that touch
        uint64_t all = resident.bytes(heap.start, heap.end), free = 0;
        while (auto chunk = chunks.next()) {
            uint64_t end = chunk->address + chunk->bytes;
            while (fast != fast_.end() && *fast < chunk->address)
                ++fast;
            bool is_fast = fast != fast_.end() && *fast == chunk->address;
            if (!is_fast && !chunks.is_free()) {
                uint64_t resident_bytes = resident.bytes(chunk->address, end);
                visit_({*chunk, chunks.beginning(), resident_bytes, arena.is_main});
                continue;
            }
            (is_fast ? arena.fast : arena.bins).add(*chunk);
            free += resident.bytes(chunk->address, end);
            if (area.address + area.bytes != chunk->address) {
                add_area(arena, area, resident);
                area = {chunk->address, 0};
            }
            area.bytes += chunk->bytes;
        }
        bool has_top = arena.top.address >= heap.start && arena.top.address < heap.end;
        if (has_top && area.address + area.bytes == arena.top.address)
            arena.free_end.chunk = {area.address, area.bytes + arena.top.bytes};
        else
            add_area(arena, area, resident);
        uint64_t top = has_top ? resident.bytes(arena.top.address, arena.top.address + arena.top.bytes) : 0;
        arena.resident.free += free;
        arena.resident.top += top;
        arena.resident.live += all - std::min(all, free + top);
        if (has_top)
            measure_end(arena, resident);
        arena.torn_bytes += chunks.torn_bytes();
        return !chunks.torn_bytes();
    }

    // What malloc_trim(0) gives back of it: mtrim(), malloc/malloc.c.
    void add_area(GlibcArena &arena, const Chunk &chunk, const ResidentRange &resident) {
        constexpr uint64_t kChunkStruct = 48;  // sizeof(struct malloc_chunk)
        uint64_t end = chunk.address + chunk.bytes;
        FreeArea area{chunk, resident.bytes(chunk.address, end),
                      resident.bytes((chunk.address + kChunkStruct + page_ - 1) / page_ * page_, end / page_ * page_),
                      find_large({chunk.address, end})};
        arena.resident.trimmable += area.trimmable_bytes;
        if (chunk.bytes >= page_)
            arena.areas.push_back(area);
    }

    // systrim(), which is for the main arena only.
    void measure_end(GlibcArena &arena, const ResidentRange &resident) {
        const Chunk &top = arena.free_end.chunk;
        uint64_t end = top.address + top.bytes;
        arena.free_end.resident_bytes = resident.bytes(top.address, end);
        arena.free_end.large = find_large({top.address, end});
        if (arena.is_main && top.bytes > kMinChunk + 1)
            arena.free_end.trimmable_bytes = resident.bytes(end - (top.bytes - kMinChunk - 1) / page_ * page_, end);
        arena.resident.trimmable += arena.free_end.trimmable_bytes;
    }

    FreedBlocks find_large(const AddressRange &area) {
        if (parameters_.mmap_threshold <= kDefaultThreshold || area.end - area.start < kDefaultThreshold)
            return {};
        return find_freed_blocks(memory_, area, kDefaultThreshold, freed_left_);
    }

    const ResidentMemory &memory_;
    const GlibcPlace &place_;
    const Layout &layout_;
    const GlibcParameters &parameters_;
    AddressRange heap_;
    const ChunkVisitor &visit_;
    std::vector<uint64_t> fast_;        // of the arena that is read, sorted
    uint64_t freed_left_ = 1ull << 30;  // bytes of free memory that are read
    const uint64_t page_ = static_cast<uint64_t>(getpagesize());
};

}  // namespace

uint64_t GlibcArena::first_chunk(const AddressRange &heap) const {
    // A thread's heap begins with struct heap_info, which in the first is followed by the arena itself.
    uint64_t at = heap.start;
    if (!is_main)
        at = address / kHeapMax * kHeapMax == heap.start ? address + state_bytes : heap.start + address % kHeapMax;
    return (at + kChunkAlignment - 1) / kChunkAlignment * kChunkAlignment;
}

uint64_t GlibcSnapshot::trimmable_bytes() const {
    return std::accumulate(arenas.begin(), arenas.end(), uint64_t{0},
                           [](uint64_t sum, const GlibcArena &arena) { return sum + arena.resident.trimmable; });
}

uint64_t GlibcSnapshot::torn_bytes() const {
    return std::accumulate(arenas.begin(), arenas.end(), uint64_t{0},
                           [](uint64_t sum, const GlibcArena &arena) { return sum + arena.torn_bytes; });
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

std::optional<GlibcPlace> find_glibc_malloc(const ResidentMemory &memory, std::span<const AddressRange> ranges,
                                            uint64_t heap_start) {
    std::vector<DataCopy> all = copy_data(memory, ranges);
    GlibcPlace place;
    if (!find_parameters(all, heap_start, place))
        return std::nullopt;
    Guesses guesses(memory);
    for (const DataCopy &data : all) {
        auto confirm = [&](size_t word) {
            uint64_t bins = data.address_of(word);
            place.main_arena = bins - kLayouts[place.layout].bins;
            return confirm_bins(guesses, bins, &data.words[word]) &&
                   confirm_ring(guesses, place.main_arena, kLayouts[place.layout]);
        };
        if (find_list_heads(data, kBins, may_be_chunk, confirm))
            return place;
    }
    return std::nullopt;
}

GlibcSnapshot read_glibc_malloc(const ResidentMemory &memory, const GlibcPlace &place, const AddressRange &heap,
                                const ChunkVisitor &visit) {
    GlibcSnapshot snapshot;
    snapshot.parameters = read_parameters(memory, place);
    GlibcArenaReader reader(memory, place, snapshot.parameters, heap, visit);
    uint64_t next = reader.read(place.main_arena, snapshot);
    // They may lead in a circle that the main arena is not part of.
    std::set<uint64_t> seen = {place.main_arena};
    while (next && seen.insert(next).second && snapshot.arenas.size() < kMaxArenas)
        next = reader.read(next, snapshot);
    snapshot.all_freed_blocks = reader.has_read_all_freed();
    snapshot.complete = snapshot.complete && next == place.main_arena;
    return snapshot;
}

}  // namespace memtrace
