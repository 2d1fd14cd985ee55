// SPDX-License-Identifier: Apache-2.0
#include "explain/explain.h"

#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <deque>
#include <functional>
#include <iterator>
#include <map>
#include <numeric>
#include <set>
#include <thread>
#include <utility>

#include "base/counted.h"
#include "base/failure.h"
#include "base/memory_budget.h"
#include "process/frozen_process.h"
#include "process/memory_map.h"
#include "process/proc_files.h"
#include "process/reading_child.h"
#include "process/shared_memory.h"
#include "snapshots/glibc_mapped_chunks.h"

namespace memtrace {

namespace {

// A module's writable mappings, and what the linker put behind them for variables that begin as 0.
std::vector<AddressRange> data_of(const mt_file_id &module, const std::vector<MappedMemory> &memory) {
    std::vector<AddressRange> ranges;
    bool before_is_data = false;
    uint64_t end = 0;
    for (const MappedMemory &part : memory) {
        const Mapping &mapping = part.mapping;
        bool is_writable = mapping.permissions().starts_with("rw");
        bool is_module = mapping.inode == module.inode && mapping.device == module.device;
        bool is_behind = before_is_data && mapping.start == end && !mapping.inode && mapping.path().empty();
        before_is_data = is_writable && (is_module || is_behind);
        end = mapping.end;
        if (before_is_data)
            ranges.push_back({mapping.start, mapping.end});
    }
    return ranges;
}

// Several in a row where the program has split it (mprotect).
AddressRange heap_of(const std::vector<MappedMemory> &memory) {
    AddressRange heap;
    for (const MappedMemory &part : memory)
        if (part.mapping.path() == "[heap]")
            heap = {heap.start ? heap.start : part.mapping.start, part.mapping.end};
    return heap;
}

std::optional<GlibcPlace> find_glibc(const ResidentMemory &resident, const std::vector<MappedMemory> &memory) {
    uint64_t heap_start = heap_of(memory).start;
    for (const MappedMemory &part : memory) {
        const Mapping &mapping = part.mapping;
        std::string name = mapping.path().substr(mapping.path().rfind('/') + 1);
        int minor = 0;
        // Until 2.33 the file's name has the version.
        bool is_old = std::sscanf(name.c_str(), "libc-2.%d.so", &minor) == 1;
        if (!mapping.inode || !heap_start || !(is_old || name.starts_with("libc.so.6")))
            continue;
        auto place = find_glibc_malloc(resident, data_of({mapping.device, mapping.inode}, memory), heap_start);
        if (place)
            place->links_are_plain = is_old && minor < 32;
        return place;
    }
    return std::nullopt;
}

std::string owner_of(const Mapping &mapping) {
    if (mapping.path() == "[heap]")
        return "c_heap_live";
    if (mapping.path() == "[stack]")
        return "stack";
    return "anonymous";
}

// Private memory of no file.
bool is_anonymous(const MappedMemory &part) {
    return part.mapping.permissions().ends_with('p') && !part.mapping.inode && owner_of(part.mapping) == "anonymous";
}

// Mappings that an allocator may have made.
std::vector<AddressRange> anonymous_mappings(const std::vector<MappedMemory> &memory) {
    std::vector<AddressRange> ranges;
    for (const MappedMemory &part : memory)
        if (part.rss_bytes && part.mapping.permissions().starts_with("rw") && is_anonymous(part))
            ranges.push_back({part.mapping.start, part.mapping.end});
    return ranges;
}

// The kernel joins and splits mappings; a block may lie across several that touch.
std::vector<AddressRange> joined_mappings(const std::vector<MappedMemory> &memory) {
    std::vector<AddressRange> ranges;
    int64_t rss_bytes = 0;  // of the last one
    for (const MappedMemory &part : memory) {
        if (!is_anonymous(part))
            continue;
        if (!ranges.empty() && ranges.back().end == part.mapping.start) {
            ranges.back().end = part.mapping.end;
        } else {
            if (!ranges.empty() && !rss_bytes)
                ranges.pop_back();
            ranges.push_back({part.mapping.start, part.mapping.end});
            rss_bytes = 0;
        }
        rss_bytes += part.rss_bytes;
    }
    return ranges;
}

MemoryMap read_memory_of(int pid) {
    auto memory = read_memory_map(pid);
    if (!memory)
        fail("process {} is not ours to look into: {}", pid, ReadingChild::describe(errno));
    return std::move(*memory);
}

// What is laid out by an interpreter is read as its version says. One that is not known is not guessed at.
bool is_known(const FoundPython &python) {
    return python.runtime.state == MT_PYTHON_READY;
}

// A busy process changes its lists while they are compared, so they are looked for more than once.
constexpr int kAttempts = 5;
constexpr int kHeapAttempts = 20;  // of the C heap's, which are more, and each a millisecond or two

template <typename Look>
auto look_again(int attempts, Look look) {
    auto found = look();
    for (int attempt = 1; attempt < attempts && !found; attempt++)
        found = look();
    return found;
}

// Takes one explanation.
class Explainer {
  public:
    // `place` may have been found before: it takes longest. In one that stands still, one attempt tells.
    Explainer(int pid, const FoundPython &python, std::optional<PymallocPlace> place, int attempts)
        : attempts_(attempts),
          resident_(pid),
          place_(place),
          map_(read_memory_of(pid)),
          memory_devices_(read_memory_devices(pid)),
          is_known_(is_known(python)) {
        explanation_.pid = pid;
        explanation_.identity = read_identity(pid);
        explanation_.python = python;
    }

    Explanation explain() {
        take_mappings();
        take_allocators();
        for (const auto &[owner, bytes] : layers_)
            explanation_.layers.push_back({owner, bytes});
        std::stable_sort(explanation_.layers.begin(), explanation_.layers.end(),
                         [](const Layer &a, const Layer &b) { return a.resident_bytes > b.resident_bytes; });
        return std::move(explanation_);
    }

    const std::vector<MappedMemory> &memory() const {
        return map_.parts;
    }

  private:
    // The layers as the kernel sees them.
    void take_mappings() {
        if (map_.left_out)
            incomplete("Left out: {}, after the first {}. {:.2f} MiB are resident there, and in no figure.",
                       counted(map_.left_out, "mapping", "mappings"), with_thousands(kMaxMappings),
                       static_cast<double>(map_.left_out_rss_bytes) / (1 << 20));
        std::map<std::string, MappedFile> files;
        std::map<std::string, int64_t> shared;
        for (const MappedMemory &part : map_.parts) {
            const Mapping &mapping = part.mapping;
            explanation_.rss_bytes += part.rss_bytes;
            explanation_.pss_bytes += part.pss_bytes;
            explanation_.swap_bytes += part.swap_bytes;
            bool is_shared = is_shared_memory(mapping, memory_devices_);
            if (is_shared || mapping.inode) {
                layers_[is_shared ? "shared_memory" : "file_mappings"] += part.rss_bytes - part.anonymous_bytes;
                layers_["file_private"] += part.anonymous_bytes;
            } else {
                // No allocator of ours uses MADV_FREE: what is given up so was mapped by others.
                int64_t given_up = owner_of(mapping) == "anonymous" ? part.lazy_free_bytes : 0;
                layers_[owner_of(mapping)] += part.rss_bytes - given_up;
                if (given_up)
                    layers_["lazy_free"] += given_up;
                explanation_.huge_page_bytes += part.huge_page_bytes;
                continue;
            }
            if (is_shared)
                shared[mapping.path()] += part.rss_bytes - part.anonymous_bytes;
            MappedFile &file = files[mapping.path()];
            file.path = mapping.path();
            file.resident_bytes += is_shared ? part.anonymous_bytes : part.rss_bytes;
            file.changed_bytes += part.anonymous_bytes;
            file.has_code |= mapping.permissions()[2] == 'x';
        }
        if (auto peak = read_peak_rss(explanation_.pid))
            explanation_.peak_rss_bytes = std::max(*peak, explanation_.rss_bytes);
        for (auto &[path, file] : files)
            if (file.resident_bytes)
                explanation_.files.push_back(std::move(file));
        std::stable_sort(explanation_.files.begin(), explanation_.files.end(),
                         [](const auto &a, const auto &b) { return a.resident_bytes > b.resident_bytes; });
        explanation_.shared_memory.assign(shared.begin(), shared.end());
        std::stable_sort(explanation_.shared_memory.begin(), explanation_.shared_memory.end(),
                         [](const auto &a, const auto &b) { return a.second > b.second; });
    }

    // What its allocators make of them.
    void take_allocators() {
        std::vector<AddressRange> data = data_of(explanation_.python.file, map_.parts);
        if (!is_known_)
            place_ = std::nullopt;
        else if (!place_ || !update_pymalloc(resident_, data, *place_))
            place_ = look_again(attempts_, [&] { return find_pymalloc(resident_, data); });
        auto glibc = look_again(attempts_ == 1 ? 1 : kHeapAttempts, [&] { return find_glibc(resident_, map_.parts); });
        // What is in use of another allocator's heap is not known.
        if (!glibc)
            move_layer("c_heap_live", "anonymous", static_cast<uint64_t>(layers_["c_heap_live"]));
        std::vector<uint64_t> arenas = place_ ? arena_addresses(resident_, *place_) : std::vector<uint64_t>();
        for (uint64_t address : arenas)
            known_.push_back({address, address + place_->arena_bytes});
        if (is_known_ && explanation_.python.version.is_at_least(3, 13))
            take_mimalloc(data);
        CensusTaker census(resident_, explanation_.python.version, std::move(arenas), place_.value_or(PymallocPlace{}));
        std::vector<Chunk> tail;
        if (glibc)
            tail = take_heap(*glibc, census);
        if (place_) {
            explanation_.pymalloc =
                read_pymalloc(resident_, *place_, [&](const UsedPoolCopy &pool) { census.add_pool(pool); });
            take_layers(*explanation_.pymalloc);
        }
        if (explanation_.glibc)
            take_mapped_chunks(explanation_.glibc->parameters, census);
        take_zeros_in_huge_pages();
        if (is_known_)
            take_objects(census);
        else
            incomplete("Its objects and its allocator were not looked at: {}.", explanation_.python.refusal);
        for (const Chunk &chunk : tail) {
            bool is_table = place_ && chunk.address + kChunkHeaderBytes == place_->arenas;
            explanation_.heap_pins.push_back({chunk, is_table    ? "pymalloc's own table of its arenas"
                                                     : is_known_ ? census.describe(chunk)
                                                                 : "in use; by what is not known"});
        }
    }

    void take_objects(CensusTaker &census) {
        std::vector<ObjectMapping> mappings = census.mappings();
        std::sort(mappings.begin(), mappings.end(),
                  [](const ObjectMapping &a, const ObjectMapping &b) { return a.range.start < b.range.start; });
        uint64_t taken = 0;  // up to here: no two objects have the same memory
        for (ObjectMapping &mapping : mappings) {
            mapping.range.start = std::max(mapping.range.start, taken);
            taken = std::max(taken, mapping.range.end);
            census.own_mapping(mapping, resident_private_bytes(mapping.range));
        }
        explanation_.census = census.finish();
        if (!explanation_.census->complete)
            incomplete("There are more blocks and buffers than may be looked at: whose the others are is not known.");
        if (census.has_too_many_collected())
            incomplete("Cycles that wait for the garbage collector were not looked for: there are too many objects.");
        if (!explanation_.pymalloc || census.collected().empty())
            return;
        explanation_.garbage = find_garbage(resident_, explanation_.python.version, census.types(), census.collected(),
                                            *explanation_.pymalloc);
        if (!explanation_.garbage)
            incomplete(
                "Cycles that wait for the garbage collector were not found: the objects changed meanwhile, or have too "
                "many references.");
    }

    // What of it is in memory. The kernel has said so of whole mappings; of parts it is asked page by page, as long as
    // they are not of more address space than may be looked at: memory that was never touched is free, and a thousand
    // times as large.
    uint64_t resident_bytes(const AddressRange &range) {
        uint64_t sum = 0;
        for (auto part = first_part(range); part != map_.parts.end() && part->mapping.start < range.end; ++part) {
            const Mapping &mapping = part->mapping;
            AddressRange both{std::max(range.start, mapping.start), std::min(range.end, mapping.end)};
            if (both.start >= both.end || !part->rss_bytes)
                continue;
            uint64_t bytes = both.end - both.start;
            if (bytes == mapping.end - mapping.start) {
                sum += static_cast<uint64_t>(part->rss_bytes);
            } else if (bytes <= parts_left_) {
                parts_left_ -= bytes;
                sum += ResidentRange(resident_, both.start, both.end).bytes(both.start, both.end);
            } else if (!std::exchange(has_left_parts_, true)) {
                incomplete(
                    "More address space lies in parts of mappings than may be looked at: what is resident there is not "
                    "told apart.");
            }
        }
        return sum;
    }

    // Of a mapping that an object made, what is in memory and nothing else's.
    int64_t resident_private_bytes(const AddressRange &range) {
        int64_t sum = 0;
        for (auto part = first_part(range); part != map_.parts.end() && part->mapping.start < range.end; ++part) {
            const Mapping &mapping = part->mapping;
            AddressRange both{std::max(range.start, mapping.start), std::min(range.end, mapping.end)};
            if (both.start >= both.end || !part->rss_bytes || !is_anonymous(*part))
                continue;
            sum += std::max<int64_t>(0, static_cast<int64_t>(resident_bytes(both)) - part->lazy_free_bytes);
        }
        for (const auto &[piece, zeros] : zeros_)
            if (piece.start >= range.start && piece.end <= range.end)
                sum -= static_cast<int64_t>(zeros);
        return std::max<int64_t>(0, sum);
    }

    void take_mimalloc(std::span<const AddressRange> data) {
        explanation_.mimalloc = read_mimalloc(resident_, data, anonymous_mappings(map_.parts));
        if (!explanation_.mimalloc)
            return;
        for (const MimallocSegment &segment : explanation_.mimalloc->segments) {
            known_.push_back({segment.address, segment.address + segment.bytes});
            layers_[owner_at(segment.address)] -= static_cast<int64_t>(segment.resident_bytes);
        }
        const MimallocResident &resident = explanation_.mimalloc->resident;
        layers_["mimalloc_live"] += static_cast<int64_t>(resident.live);
        layers_["mimalloc_free"] += static_cast<int64_t>(resident.free);
        layers_["mimalloc_headers"] += static_cast<int64_t>(resident.headers);
    }

    // All that is alive in the C heap's arenas. Gives the last chunks of those that pin the heap's end.
    std::vector<Chunk> take_heap(const GlibcPlace &place, CensusTaker &census) {
        constexpr size_t kMaxTail = 16;
        std::deque<Chunk> last;
        auto take = [&](const LiveChunk &chunk) {
            if (is_known_)
                census.add_chunk(chunk, false);
            if (!chunk.in_main_arena)
                return;
            last.push_back(chunk.chunk);
            if (last.size() > kMaxTail)
                last.pop_front();
        };
        const GlibcSnapshot &glibc =
            explanation_.glibc.emplace(read_glibc_malloc(resident_, place, heap_of(map_.parts), take));
        for (const GlibcArena &arena : glibc.arenas) {
            known_.insert(known_.end(), arena.heaps.begin(), arena.heaps.end());
            take_layers(arena);
        }
        std::vector<Chunk> tail;
        if (!glibc.arenas.empty())
            explanation_.heap = split_heap(glibc.arenas[0], glibc.parameters);
        std::copy_if(last.begin(), last.end(), std::back_inserter(tail), [&](const Chunk &chunk) {
            return chunk.address >= explanation_.heap.tail.start && chunk.address < explanation_.heap.tail.end;
        });
        if (!glibc.all_freed_blocks)
            incomplete("More is free in the C heap than may be looked through: what it was before is not known.");
        return tail;
    }

    // And in blocks that are mappings of their own.
    void take_mapped_chunks(const GlibcParameters &parameters, CensusTaker &census) {
        sort_known();
        // One may begin where an object says, or a mapping does.
        std::vector<uint64_t> blocks = census.buffers_elsewhere();
        for (const AddressRange &mapping : anonymous_mappings(map_.parts))
            blocks.push_back(mapping.start + kChunkHeaderBytes);
        MappedChunks found = find_mapped_chunks(resident_, joined_mappings(map_.parts), known_, blocks, parameters);
        if (!found.complete)
            incomplete(
                "There is more private memory than may be searched for large blocks of the C library: {} of {} were "
                "found, and the others count as memory that malloc did not make.",
                found.chunks.size(), parameters.mapped_chunks);
        auto page = static_cast<uint64_t>(getpagesize());
        for (const Chunk &chunk : found.chunks) {
            uint64_t end = chunk.address + chunk.bytes;
            LiveChunk live{chunk, {}, resident_bytes({chunk.address, end}), false};
            std::array<uint8_t, 64> beginning;
            if (resident_.read(chunk.address + kChunkHeaderBytes, beginning.data(), beginning.size()))
                live.bytes = beginning;
            uint64_t zeros = has_huge_pages({chunk.address, end}) ? find_zeros({chunk.address / page * page, end}) : 0;
            zeros = std::min(zeros, live.resident_bytes);
            live.resident_bytes -= zeros;
            move_layer(owner_at(chunk.address), "huge_page_zeros", zeros);
            move_layer(owner_at(chunk.address), "mapped_blocks", live.resident_bytes);
            if (is_known_)
                census.add_chunk(live, true);
            known_.push_back({chunk.address, end});
        }
    }

    // Memory that no allocator has. (Theirs is left to them, but for large blocks: take_mapped_chunks.)
    void take_zeros_in_huge_pages() {
        sort_known();
        auto page = static_cast<uint64_t>(getpagesize());
        auto known = known_.begin();
        for (const MappedMemory &part : map_.parts) {
            if (!may_have_huge_pages(part) || !is_anonymous(part))
                continue;
            for (uint64_t at = part.mapping.start; at < part.mapping.end;) {
                while (known != known_.end() && known->end <= at)
                    ++known;
                if (known != known_.end() && known->start <= at) {
                    at = (known->end + page - 1) / page * page;
                    continue;
                }
                uint64_t end =
                    std::min(part.mapping.end, known == known_.end() ? UINT64_MAX : known->start / page * page);
                move_layer("anonymous", "huge_page_zeros", find_zeros({at, end}));
                at = end;
            }
        }
        if (zeros_left_ < kHugePage)
            incomplete("More lies in huge pages than may be looked through for pages that were never written.");
    }

    // Bytes of pages of zeros beside others, in huge pages: as a rule, the program has written to the others only. A
    // huge page of nothing but zeros it has written to, or it would not be there.
    uint64_t find_zeros(const AddressRange &range) {
        auto page = static_cast<uint64_t>(getpagesize());
        std::vector<uint8_t> copy(kHugePage);
        uint64_t sum = 0;
        for (uint64_t at = range.start, end; at < range.end && zeros_left_ >= kHugePage; at = end) {
            end = std::min(range.end, (at / kHugePage + 1) * kHugePage);
            auto present = resident_.copy(at, end, copy.data());
            uint64_t zeros = 0, others = 0;
            for (size_t i = 0; present && i < present->size(); i++)
                if ((*present)[i])
                    (is_zero(&copy[i * page], page) ? zeros : others)++;
            zeros_left_ -= std::max<uint64_t>(1, zeros + others) * page;
            bool whole = (zeros + others) * page == end - at;  // a huge page is in memory with all its pages
            if (!zeros || !others || !whole)
                continue;
            zeros_.push_back({{at, end}, zeros * page});
            sum += zeros * page;
        }
        return sum;
    }

    bool may_have_huge_pages(const MappedMemory &part) const {
        return part.huge_page_bytes || (part.huge_pages_advised && part.anonymous_bytes && huge_pages_allowed_);
    }

    bool has_huge_pages(const AddressRange &range) const {
        for (auto part = first_part(range); part != map_.parts.end() && part->mapping.start < range.end; ++part)
            if (may_have_huge_pages(*part))
                return true;
        return false;
    }

    // The first mapping that ends behind the range's start.
    std::vector<MappedMemory>::const_iterator first_part(const AddressRange &range) const {
        return std::upper_bound(map_.parts.begin(), map_.parts.end(), range.start,
                                [](uint64_t at, const MappedMemory &part) { return at < part.mapping.end; });
    }

    static bool is_zero(const uint8_t *bytes, size_t size) {
        return !bytes[0] && !std::memcmp(bytes, bytes + 1, size - 1);
    }

    void take_layers(const PymallocSnapshot &pymalloc) {
        layers_["pymalloc_live"] += static_cast<int64_t>(pymalloc.resident.live);
        layers_["pymalloc_free_blocks"] += static_cast<int64_t>(pymalloc.resident.free_blocks);
        layers_["pymalloc_free_pools"] += static_cast<int64_t>(pymalloc.resident.free_pools);
        layers_["pymalloc_headers"] += static_cast<int64_t>(pymalloc.resident.headers);
        for (const Arena &arena : pymalloc.arenas)
            layers_[owner_at(arena.address)] -= static_cast<int64_t>(arena.resident_bytes);
    }

    void take_layers(const GlibcArena &arena) {
        if (arena.heaps.empty())
            return;
        std::string owner = owner_at(arena.heaps[0].start);
        move_layer(owner, "c_heap_live", arena.resident.live);
        move_layer(owner, "c_heap_free", arena.resident.free);
        move_layer(owner, "c_heap_top", arena.resident.top);
    }

    void move_layer(const std::string &from, const char *to, uint64_t bytes) {
        layers_[from] -= static_cast<int64_t>(bytes);
        layers_[to] += static_cast<int64_t>(bytes);
    }

    // The owner of the mapping that has this address.
    std::string owner_at(uint64_t address) const {
        auto above = std::upper_bound(map_.parts.begin(), map_.parts.end(), address,
                                      [](uint64_t at, const MappedMemory &m) { return at < m.mapping.start; });
        return owner_of(above == map_.parts.begin() ? Mapping{} : std::prev(above)->mapping);
    }

    template <typename... Values>
    void incomplete(fmt::format_string<Values...> sentence, Values &&...values) {
        explanation_.incomplete.push_back(fmt::format(sentence, std::forward<Values>(values)...));
    }

    void sort_known() {
        std::sort(known_.begin(), known_.end(),
                  [](const AddressRange &a, const AddressRange &b) { return a.start < b.start; });
    }

    static constexpr uint64_t kHugePage = 2 << 20;
    uint64_t parts_left_ = uint64_t{256} << 30;  // bytes of address space: half a second
    bool has_left_parts_ = false;
    int attempts_;
    ResidentMemory resident_;
    std::optional<PymallocPlace> place_;
    MemoryMap map_;
    std::set<uint64_t> memory_devices_;
    bool is_known_;                                         // the interpreter's version
    std::vector<AddressRange> known_;                       // to an allocator
    std::vector<std::pair<AddressRange, uint64_t>> zeros_;  // by find_zeros
    // Where the system gives none, advice asks for nothing.
    const bool huge_pages_allowed_ =
        read_whole_file("/sys/kernel/mm/transparent_hugepage/enabled").value_or("[never]").find("[never]") ==
        std::string::npos;
    uint64_t zeros_left_ = 1ull << 30;  // bytes that are read for that
    std::map<std::string, int64_t> layers_;
    Explanation explanation_;
};

bool is_contradictory(const Explanation &explanation) {
    const auto &pymalloc = explanation.pymalloc;
    const auto &mimalloc = explanation.mimalloc;
    const auto &glibc = explanation.glibc;
    return (pymalloc && pymalloc->torn_pools) || (mimalloc && mimalloc->torn_segments + mimalloc->torn_pages) ||
           (glibc && !glibc->complete);
}

void name_lines(Explanation &explanation, const FirstTouch &first_touch) {
    const std::vector<ArenaPins> none;
    for (const ArenaPins &pins : explanation.census ? explanation.census->pins : none)
        for (uint64_t address : pins.addresses)
            if (std::string line = first_touch(address); !line.empty())
                explanation.pin_lines[line]++;
    for (HeapPin &pin : explanation.heap_pins)
        if (std::string line = first_touch(pin.chunk.address); !line.empty())
            pin.owner += fmt::format(", on a page that {} touched first", line);
}

// Of a process that stands still: each time a thread may be stopped in the middle of an allocation, in which case
// letting it go on for a moment helps. Of one that allocates all the time, one snapshot in four was such.
constexpr int kPauses = 5;
constexpr std::chrono::nanoseconds kLongestPause = std::chrono::milliseconds(500);  // all together
constexpr std::chrono::milliseconds kBetweenPauses{10};                             // long enough for the thread to run

struct Snapshot {
    Explanation explanation;
    std::vector<MappedMemory> memory;
};

Snapshot take_snapshot(int pid, const FoundPython &python, std::optional<PymallocPlace> place, int attempts) {
    Explainer explainer(pid, python, place, attempts);
    Explanation explanation = explainer.explain();
    return {std::move(explanation), explainer.memory()};
}

Snapshot take_snapshot_paused(int pid, const FoundPython &python, const std::function<void()> &on_read) {
    // While it allocates, it may take some attempts to find what agrees; if none does, it is found while paused.
    std::optional<PymallocPlace> place;
    if (is_known(python))
        place = look_again(kAttempts, [&] {
            return find_pymalloc(ResidentMemory(pid), data_of(python.file, read_memory_of(pid).parts));
        });
    std::chrono::nanoseconds paused{0}, last_pause{0};
    bool is_time_up = false;
    auto pause = [&] {
        FrozenProcess frozen(pid, kLongestPause - paused);
        ReadingChild::Watch until_due([&] {
            frozen.let_go_when_due();
            if (on_read)
                on_read();
        });
        Snapshot snapshot = take_snapshot(pid, python, place, 1);
        last_pause = frozen.release();
        paused += last_pause;
        is_time_up = frozen.was_due();
        return snapshot;
    };
    Snapshot best = pause();
    bool is_of_one_moment = !is_time_up;
    for (int pauses = 1; is_contradictory(best.explanation) && pauses < kPauses && !is_time_up; pauses++) {
        if ((is_time_up = kLongestPause - paused < last_pause))
            break;
        std::this_thread::sleep_for(kBetweenPauses);
        try {
            Snapshot snapshot = pause();
            // In the middle of an allocation, but of one moment, is better than of several.
            if (!is_time_up)
                best = std::move(snapshot);
        } catch (const Failure &) {  // it cannot be paused now, or has ended
            is_time_up = true;
        }
    }
    constexpr auto kLongestMs = std::chrono::duration_cast<std::chrono::milliseconds>(kLongestPause).count();
    if (!is_of_one_moment)
        best.explanation.incomplete.push_back(
            fmt::format("It was paused for {} ms, which is the longest, and then went on: what was read later is not "
                        "of the same moment.",
                        kLongestMs));
    else if (is_time_up)
        best.explanation.incomplete.push_back(
            fmt::format("What was read contradicts itself, as in the middle of an allocation, and it could not be "
                        "paused again: {} ms is the longest, all together.",
                        kLongestMs));
    best.explanation.frozen_ns = static_cast<uint64_t>(paused.count());
    return best;
}

}  // namespace

int64_t Traced::copied_bytes() const {
    return std::accumulate(copies.begin(), copies.end(), int64_t{0},
                           [](int64_t sum, const auto &copy) { return sum + copy.second; });
}

int64_t Explanation::layer(std::string_view owner) const {
    for (const Layer &layer : layers)
        if (layer.owner == owner)
            return layer.resident_bytes;
    return 0;
}

Explanation explain(int pid, const FoundPython &python, bool freeze, Traced traced,
                    const std::function<void()> &on_read) {
    auto started = std::chrono::steady_clock::now();
    ReadingChild::Watch watch(on_read);
    uint64_t left_out_before = MemoryBudget::instance().left_out();
    auto [explanation, memory] =
        freeze ? take_snapshot_paused(pid, python, on_read) : take_snapshot(pid, python, std::nullopt, kAttempts);
    std::vector<Mapping> mappings;
    for (const MappedMemory &part : memory)
        mappings.push_back(part.mapping);
    explanation.c_allocator = find_c_allocator(pid, mappings, python.file, python.bias, ResidentMemory(pid));
    if (ReadingChild::instance().given_up().contains(pid))
        explanation.incomplete.push_back(
            "A page of its memory was not brought for a second, as with FUSE or userfaultfd: nothing more was read of "
            "it, and what was not read by then is not told apart.");
    if (uint64_t left_out = MemoryBudget::instance().left_out() - left_out_before)
        explanation.incomplete.push_back(
            fmt::format("memtrace keeps to {} MiB of memory (--max-memory), and has left out detail for that, {}: "
                        "objects of cycles "
                        "first, then whose blocks and buffers are.",
                        MemoryBudget::instance().limit() >> 20, counted(left_out, "time", "times")));
    explanation.traced = std::move(traced);
    if (explanation.traced.first_touch)
        name_lines(explanation, explanation.traced.first_touch);
    explanation.findings = find_causes(explanation);
    explanation.duration_ns = static_cast<uint64_t>(
        std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now() - started).count());
    return explanation;
}

}  // namespace memtrace
