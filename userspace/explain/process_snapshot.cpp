// SPDX-License-Identifier: Apache-2.0
#include "explain/process_snapshot.h"

#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <deque>
#include <iterator>
#include <map>
#include <set>
#include <string>
#include <utility>

#include "base/counted.h"
#include "explain/address_space.h"
#include "explain/huge_page_zeros.h"
#include "process/proc_files.h"
#include "process/shared_memory.h"
#include "snapshots/glibc_mapped_chunks.h"
#include "snapshots/resident_memory.h"

namespace memtrace {

namespace {

std::optional<GlibcPlace> find_glibc(const ResidentMemory &resident, const AddressSpace &space) {
    uint64_t heap_start = space.heap().start;
    for (const MappedMemory &part : space.parts()) {
        const Mapping &mapping = part.mapping;
        std::string name = mapping.path().substr(mapping.path().rfind('/') + 1);
        int minor = 0;
        // Until 2.33 the file's name has the version.
        bool is_old = std::sscanf(name.c_str(), "libc-2.%d.so", &minor) == 1;
        if (!mapping.inode || !heap_start || !(is_old || name.starts_with("libc.so.6")))
            continue;
        auto place = find_glibc_malloc(resident, space.data_of({mapping.device, mapping.inode}), heap_start);
        if (place)
            place->links_are_plain = is_old && minor < 32;
        return place;
    }
    return std::nullopt;
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

class SnapshotTaker {
  public:
    // `place` may have been found before: it takes longest. In one that stands still, one attempt tells.
    SnapshotTaker(int pid, const FoundPython &python, std::optional<PymallocPlace> place, int attempts)
        : attempts_(attempts),
          resident_(pid),
          place_(place),
          space_(pid, resident_),
          zeros_(resident_, space_),
          memory_devices_(read_memory_devices(pid)),
          is_known_(is_known(python)) {
        explanation_.pid = pid;
        explanation_.identity = read_identity(pid);
        explanation_.python = python;
    }

    ProcessSnapshot take() {
        take_mappings();
        take_allocators();
        for (const auto &[owner, bytes] : layers_)
            explanation_.layers.push_back({owner, bytes});
        std::stable_sort(explanation_.layers.begin(), explanation_.layers.end(),
                         [](const Layer &a, const Layer &b) { return a.resident_bytes > b.resident_bytes; });
        return {std::move(explanation_), space_.parts()};
    }

  private:
    // The layers as the kernel sees them.
    void take_mappings() {
        if (space_.left_out())
            incomplete("Left out: {}, after the first {}. {:.2f} MiB are resident there, and in no figure.",
                       counted(space_.left_out(), "mapping", "mappings"), with_thousands(kMaxMappings),
                       static_cast<double>(space_.left_out_rss_bytes()) / (1 << 20));
        std::map<std::string, MappedFile> files;
        std::map<std::string, int64_t> shared;
        for (const MappedMemory &part : space_.parts()) {
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
        std::vector<AddressRange> data = space_.data_of(explanation_.python.file);
        if (!is_known_)
            place_ = std::nullopt;
        else if (!place_ || !update_pymalloc(resident_, data, *place_))
            place_ = look_again(attempts_, [&] { return find_pymalloc(resident_, data); });
        auto glibc = look_again(attempts_ == 1 ? 1 : kHeapAttempts, [&] { return find_glibc(resident_, space_); });
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
        if (space_.has_left_parts())
            incomplete(
                "More address space lies in parts of mappings than may be looked at: what is resident there is not "
                "told apart.");
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

    // Of a mapping that an object made, what is in memory and nothing else's.
    int64_t resident_private_bytes(const AddressRange &range) {
        auto zeros = static_cast<int64_t>(zeros_.bytes_in(range));
        return std::max<int64_t>(0, space_.resident_private_bytes(range) - zeros);
    }

    void take_mimalloc(std::span<const AddressRange> data) {
        explanation_.mimalloc = read_mimalloc(resident_, data, space_.anonymous());
        if (!explanation_.mimalloc)
            return;
        for (const MimallocSegment &segment : explanation_.mimalloc->segments) {
            known_.push_back({segment.address, segment.address + segment.bytes});
            layers_[space_.owner_at(segment.address)] -= static_cast<int64_t>(segment.resident_bytes);
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
            explanation_.glibc.emplace(read_glibc_malloc(resident_, place, space_.heap(), take));
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
        for (const AddressRange &mapping : space_.anonymous())
            blocks.push_back(mapping.start + kChunkHeaderBytes);
        MappedChunks found = find_mapped_chunks(resident_, space_.joined_anonymous(), known_, blocks, parameters);
        if (!found.complete)
            incomplete(
                "There is more private memory than may be searched for large blocks of the C library: {} of {} were "
                "found, and the others count as memory that malloc did not make.",
                found.chunks.size(), parameters.mapped_chunks);
        auto page = static_cast<uint64_t>(getpagesize());
        for (const Chunk &chunk : found.chunks) {
            uint64_t end = chunk.address + chunk.bytes;
            LiveChunk live{chunk, {}, space_.resident_bytes({chunk.address, end}), false};
            std::array<uint8_t, 64> beginning;
            if (resident_.read(chunk.address + kChunkHeaderBytes, beginning.data(), beginning.size()))
                live.bytes = beginning;
            uint64_t zeros = zeros_.may_be_in(AddressRange{chunk.address, end})
                                 ? zeros_.find({chunk.address / page * page, end})
                                 : 0;
            zeros = std::min(zeros, live.resident_bytes);
            live.resident_bytes -= zeros;
            move_layer(space_.owner_at(chunk.address), "huge_page_zeros", zeros);
            move_layer(space_.owner_at(chunk.address), "mapped_blocks", live.resident_bytes);
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
        for (const MappedMemory &part : space_.parts()) {
            if (!zeros_.may_be_in(part) || !is_anonymous(part))
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
                move_layer("anonymous", "huge_page_zeros", zeros_.find({at, end}));
                at = end;
            }
        }
        if (!zeros_.complete())
            incomplete("More lies in huge pages than may be looked through for pages that were never written.");
    }

    void take_layers(const PymallocSnapshot &pymalloc) {
        layers_["pymalloc_live"] += static_cast<int64_t>(pymalloc.resident.live);
        layers_["pymalloc_free_blocks"] += static_cast<int64_t>(pymalloc.resident.free_blocks);
        layers_["pymalloc_free_pools"] += static_cast<int64_t>(pymalloc.resident.free_pools);
        layers_["pymalloc_headers"] += static_cast<int64_t>(pymalloc.resident.headers);
        for (const Arena &arena : pymalloc.arenas)
            layers_[space_.owner_at(arena.address)] -= static_cast<int64_t>(arena.resident_bytes);
    }

    void take_layers(const GlibcArena &arena) {
        if (arena.heaps.empty())
            return;
        std::string owner = space_.owner_at(arena.heaps[0].start);
        move_layer(owner, "c_heap_live", arena.resident.live);
        move_layer(owner, "c_heap_free", arena.resident.free);
        move_layer(owner, "c_heap_top", arena.resident.top);
    }

    void move_layer(const std::string &from, const char *to, uint64_t bytes) {
        layers_[from] -= static_cast<int64_t>(bytes);
        layers_[to] += static_cast<int64_t>(bytes);
    }

    template <typename... Values>
    void incomplete(fmt::format_string<Values...> sentence, Values &&...values) {
        explanation_.incomplete.push_back(fmt::format(sentence, std::forward<Values>(values)...));
    }

    void sort_known() {
        std::sort(known_.begin(), known_.end(),
                  [](const AddressRange &a, const AddressRange &b) { return a.start < b.start; });
    }

    int attempts_;
    ResidentMemory resident_;
    std::optional<PymallocPlace> place_;
    AddressSpace space_;
    HugePageZeros zeros_;
    std::set<uint64_t> memory_devices_;
    bool is_known_;                    // the interpreter's version
    std::vector<AddressRange> known_;  // to an allocator
    std::map<std::string, int64_t> layers_;
    Explanation explanation_;
};

}  // namespace

std::optional<PymallocPlace> find_place(int pid, const FoundPython &python) {
    if (!is_known(python))
        return std::nullopt;
    ResidentMemory resident(pid);
    return look_again(kAttempts,
                      [&] { return find_pymalloc(resident, AddressSpace(pid, resident).data_of(python.file)); });
}

ProcessSnapshot take_snapshot(int pid, const FoundPython &python) {
    return SnapshotTaker(pid, python, std::nullopt, kAttempts).take();
}

ProcessSnapshot take_snapshot_standing_still(int pid, const FoundPython &python, std::optional<PymallocPlace> place) {
    return SnapshotTaker(pid, python, place, 1).take();
}

}  // namespace memtrace
