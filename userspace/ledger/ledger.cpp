// SPDX-License-Identifier: Apache-2.0
#include "ledger/ledger.h"

#include <fmt/core.h>

#include <algorithm>
#include <set>
#include <tuple>

namespace memtrace {

namespace {

constexpr int kResidentMembers[] = {MT_FILE, MT_ANON, MT_SHMEM};

int64_t returned_pages(const mt_charge &charge) {
    int64_t pages = 0;
    for (int member : kResidentMembers)
        pages += static_cast<int64_t>(charge.returned[member]);
    return pages;
}

void add(LineSum &sum, const mt_charge &charge, int64_t page_bytes) {
    sum.grown += grown_bytes(charge, page_bytes);
    sum.returned += returned_pages(charge) * page_bytes;
    sum.peak = std::max(sum.peak, charge.rss_peak * page_bytes);
    if (charge.last_sequence >= sum.last_sequence) {
        sum.last_sequence = charge.last_sequence;
        sum.rss_after = charge.rss_after * page_bytes;
    }
}

std::string owner_name(unsigned owner) {
    switch (owner) {
        case MT_OWNER_NO_FRAME:
            return "[no python frame]";
        case MT_OWNER_RECLAIM:
            return "[kernel reclaim]";
        case MT_OWNER_FORK:
            return "[fork]";
        case MT_OWNER_EXEC:
            return "[exec]";
        case MT_OWNER_OTHER_PROCESS:
            return "[other process]";
        case MT_OWNER_TRACER:
            return "[memtrace]";
        case MT_OWNER_BEFORE_ATTACH:
            return "[before attach]";
        case MT_OWNER_ADDRESS_UNKNOWN:
            return "[address unknown]";
        default:
            return "[line unknown]";
    }
}

// The innermost frame of a charge or call, or its owner's name. A frame without a line is a place with line 0.
Place place_of(uint32_t account, unsigned owner, uint64_t stack, const CodeTable &codes) {
    Place place;
    const auto *frames = owner == MT_OWNER_STACK ? codes.resolve(account, stack) : nullptr;
    if (!frames || frames->empty()) {
        place.owner = owner_name(owner);
        return place;
    }
    const Location &innermost = frames->front();
    place.file = innermost.code->file;
    place.function = innermost.code->function;
    place.line = innermost.line.value_or(0);
    return place;
}

// Native code that is known, or null.
const NativePlace *find_native(uint32_t account, unsigned owner, uint64_t stack, const NativeTable &natives) {
    return owner == MT_OWNER_NO_FRAME && stack ? natives.find(account, stack) : nullptr;
}

// The same, with native code's module and function where they are known.
Place place_of(uint32_t account, unsigned owner, uint64_t stack, const CodeTable &codes, const NativeTable &natives) {
    Place place = place_of(account, owner, stack, codes);
    if (const NativePlace *native = find_native(account, owner, stack, natives)) {
        place.file = native->module;
        place.function = native->function;
    }
    return place;
}

const char *how_name(const mt_charge_key &key) {
    if (key.owner == MT_OWNER_RECLAIM)
        return "reclaim";
    switch (key.call) {
        case MT_CALL_BRK:
            return "brk";
        case MT_CALL_MMAP:
            return "mmap";
        case MT_CALL_MUNMAP:
            return "munmap";
        case MT_CALL_MREMAP:
            return "mremap";
        case MT_CALL_MADVISE:
            return "madvise";
        default:
            return "other";
    }
}

// The call that a kind of successful call is counted under; arenas are counted as mmap and munmap already.
mt_call call_of(unsigned kind) {
    switch (kind) {
        case MT_KIND_BRK_GROW:
        case MT_KIND_BRK_SHRINK:
            return MT_CALL_BRK;
        case MT_KIND_MMAP:
            return MT_CALL_MMAP;
        case MT_KIND_MUNMAP:
            return MT_CALL_MUNMAP;
        case MT_KIND_MREMAP:
            return MT_CALL_MREMAP;
        case MT_KIND_MADVISE:
            return MT_CALL_MADVISE;
        default:
            return MT_CALL_NONE;
    }
}

}  // namespace

Balance &Balance::operator+=(const Balance &other) {
    start += other.start;
    end += other.end;
    grown += other.grown;
    returned += other.returned;
    return *this;
}

Balance Balances::total() const {
    Balance sum = file;
    sum += anonymous;
    sum += shared;
    return sum;
}

Balances balance(const AccountData &data, int64_t page_bytes) {
    auto of = [&](int member) {
        Balance balance;
        balance.start = data.account.start[member] * page_bytes;
        balance.end = data.account.end[member] * page_bytes;
        for (const auto &[key, charge] : data.charges) {
            balance.grown += static_cast<int64_t>(charge.grown[member]) * page_bytes;
            balance.returned += static_cast<int64_t>(charge.returned[member]) * page_bytes;
        }
        return balance;
    };
    return {of(MT_FILE), of(MT_ANON), of(MT_SHMEM)};
}

int64_t grown_bytes(const mt_charge &charge, int64_t page_bytes) {
    int64_t pages = 0;
    for (int member : kResidentMembers)
        pages += static_cast<int64_t>(charge.grown[member]);
    return pages * page_bytes;
}

std::map<LineKey, LineSum> sum_lines(const AccountData &data, const CodeTable &codes, int64_t page_bytes,
                                     std::map<LineKey, const CodeObject *> *functions) {
    std::map<LineKey, LineSum> lines;
    // A line's row, found once: stacks are many, and as deep as 512 frames.
    std::map<std::pair<const CodeObject *, int>, LineSum *> rows;
    for (const auto &[key, charge] : data.charges) {
        if (key.owner != MT_OWNER_STACK)
            continue;
        const auto *frames = codes.resolve(key.account, key.stack);
        if (!frames)
            continue;
        std::set<LineSum *> once;
        for (const Location &frame : *frames) {
            LineSum *&row = rows[{frame.code, frame.line.value_or(0)}];
            if (!row) {
                LineKey line{frame.code->file, frame.code->function, frame.code->first_line, frame.line.value_or(0)};
                row = &lines[line];
                if (functions)
                    functions->try_emplace({line.file, line.function, line.first_line, 0}, frame.code);
            }
            if (once.insert(row).second)
                add(*row, charge, page_bytes);
        }
    }
    return lines;
}

std::map<LineKey, uint64_t> sum_occurrences(const AccountData &data, const CodeTable &codes,
                                            std::map<LineKey, const CodeObject *> *functions) {
    std::map<LineKey, uint64_t> occurrences;
    for (const auto &[key, row] : data.lines) {
        const ProbedLine *line = row.hits ? codes.probed_line(row.id) : nullptr;
        if (!line)
            continue;
        const CodeObject *code = codes.function_of(key.account, *line);
        LineKey at{line->file, code ? code->function : line->function, code ? code->first_line : 0, line->line};
        occurrences[at] += row.hits;
        functions->try_emplace({at.file, at.function, at.first_line, 0}, code);
    }
    return occurrences;
}

std::string in_words(const Place &place) {
    return place.file.empty() ? place.owner : fmt::format("{}:{} ({})", place.file, place.line, place.function);
}

std::map<Place, uint64_t> sum_entries(const AccountData &data, const CodeTable &codes) {
    std::map<Place, uint64_t> entries;
    for (const auto &[key, row] : data.lines) {
        const ProbedLine *line = row.entries ? codes.probed_line(row.id) : nullptr;
        if (!line)
            continue;
        const CodeObject *code = codes.function_of(key.account, *line);
        entries[{line->file, code ? code->function : line->function, line->line, ""}] += row.entries;
    }
    return entries;
}

std::map<std::string, LineSum> sum_owners(const AccountData &data, const CodeTable &codes, int64_t page_bytes) {
    std::map<std::string, LineSum> owners;
    for (const auto &[key, charge] : data.charges) {
        bool python = key.owner == MT_OWNER_STACK && codes.resolve(key.account, key.stack);
        add(owners[python ? "python" : owner_name(key.owner)], charge, page_bytes);
    }
    return owners;
}

std::map<std::pair<Place, std::string>, LineSum> sum_native(const AccountData &data, const NativeTable &natives,
                                                            int64_t page_bytes) {
    std::map<std::pair<Place, std::string>, LineSum> sums;
    for (const auto &[key, charge] : data.charges)
        if (const NativePlace *native = find_native(key.account, key.owner, key.stack, natives))
            add(sums[{{native->module, native->function, 0, owner_name(key.owner)}, native->by}], charge, page_bytes);
    return sums;
}

Place place_of_page(const PageOwner &owner, const CodeTable &codes, const NativeTable &natives) {
    return place_of(owner.account, owner.owner, owner.stack, codes, natives);
}

std::map<Place, int64_t> sum_resident(const AccountData &data, const CodeTable &codes, const NativeTable &natives) {
    std::map<Place, int64_t> places;
    if (data.resident)
        for (const auto &[owner, bytes] : data.resident->bytes)
            places[place_of_page(owner, codes, natives)] += bytes;
    return places;
}

std::map<Place, CopySum> sum_copies(const AccountData &data, const CodeTable &codes, const NativeTable &natives,
                                    int64_t page_bytes) {
    std::map<Place, CopySum> places;
    for (const auto &[key, pages] : data.copies) {
        if (!pages)
            continue;
        CopySum &sum = places[place_of(key.account, key.owner, key.stack, codes, natives)];
        auto bytes = static_cast<int64_t>(pages) * page_bytes;
        sum.bytes += bytes;
        if (key.call & MT_WRITE_HEADER)
            sum.header_bytes += bytes;
        if (key.call & MT_WRITE_IN_COLLECTION)
            sum.collection_bytes += bytes;
    }
    return places;
}

std::map<std::pair<std::string, Place>, ReturnSum> sum_returns(const AccountData &data, const CodeTable &codes,
                                                               const NativeTable &natives, int64_t page_bytes) {
    using CallKey = std::tuple<uint64_t, unsigned, unsigned>;  // stack, owner, call
    std::map<CallKey, uint64_t> calls;
    for (const auto &[key, sum] : data.calls)
        if (call_of(key.kind) != MT_CALL_NONE)
            calls[{key.stack, key.owner, call_of(key.kind)}] += sum.count;
    std::map<std::pair<std::string, Place>, ReturnSum> returns;
    for (const auto &[key, charge] : data.charges) {
        int64_t bytes = returned_pages(charge) * page_bytes;
        if (!bytes)
            continue;
        Place place = place_of(key.account, key.owner, key.stack, codes, natives);
        ReturnSum &sum = returns[{how_name(key), place}];
        sum.bytes += bytes;
        if (key.call == MT_CALL_NONE || key.owner == MT_OWNER_RECLAIM)
            sum.count += charge.events;
        else if (auto found = calls.find({key.stack, key.owner, key.call}); found != calls.end())
            sum.count += found->second;
    }
    return returns;
}

std::map<mt_call_kind, CallTotal> sum_calls(const AccountData &data, int64_t page_bytes) {
    std::map<mt_call_kind, CallTotal> totals;
    for (const auto &[key, sum] : data.calls) {
        CallTotal &total = totals[static_cast<mt_call_kind>(key.kind)];
        total.count += sum.count;
        total.length_bytes += sum.length_bytes;
        total.rss_bytes += sum.rss_pages * page_bytes;
    }
    return totals;
}

std::map<Place, ArenaSum> sum_arenas(const AccountData &data, const CodeTable &codes) {
    std::map<Place, ArenaSum> arenas;
    for (const auto &[key, sum] : data.calls) {
        if (key.kind != MT_KIND_ARENA_MMAP && key.kind != MT_KIND_ARENA_MUNMAP)
            continue;
        ArenaSum &at = arenas[place_of(key.account, key.owner, key.stack, codes)];
        (key.kind == MT_KIND_ARENA_MMAP ? at.created : at.released) += sum.count;
    }
    return arenas;
}

Collections sum_collections(const AccountData &data, const CodeTable &codes, int64_t page_bytes) {
    Collections collections;
    for (const auto &[key, sum] : data.collections) {
        Place place;
        if (const CodeObject *code = codes.code_object(key.account, key.code, key.linetable)) {
            place.file = code->file;
            place.function = code->function;
            place.line = code->lines.at(key.instruction).value_or(0);
        } else {
            place.owner = owner_name(key.owner);
        }
        for (CollectionSum *total : {&collections.by_generation[key.generation], &collections.by_place[place]}) {
            total->count += sum.count;
            total->objects += sum.objects;
            total->pause_ns += sum.pause_ns;
            total->longest_pause_ns = std::max<uint64_t>(total->longest_pause_ns, sum.longest_pause_ns);
            total->rss_change += sum.rss_pages * page_bytes;
            for (unsigned bucket = 0; bucket < MT_PAUSE_BUCKETS; bucket++)
                if (sum.pauses[bucket])
                    total->histogram[uint64_t{1000} << bucket] += sum.pauses[bucket];
        }
    }
    return collections;
}

}  // namespace memtrace
