// SPDX-License-Identifier: Apache-2.0
#include "ledger/owned_ranges.h"

#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <iterator>
#include <limits>

namespace memtrace {

namespace {

const auto kPageBytes = static_cast<uint64_t>(getpagesize());

template <typename Record>
std::optional<Record> read(std::span<const uint8_t> bytes) {
    Record record;
    if (bytes.size() < sizeof(record))
        return std::nullopt;
    std::memcpy(&record, bytes.data(), sizeof(record));
    return record;
}

// What a part of a range has of its resident bytes, in whole pages.
uint64_t share(uint64_t resident, uint64_t part, uint64_t whole) {
    if (resident >= whole)
        return part;  // and when there is no whole
    return (resident / kPageBytes * part + whole / 2) / whole * kPageBytes;
}

}  // namespace

bool OwnedRanges::add(std::span<const uint8_t> bytes) {
    auto record = read<mt_record>(bytes);
    if (!record)
        return false;
    if (record->kind == MT_RECORD_TOUCH) {
        auto touch = read<mt_touch_record>(bytes);
        if (!touch || touch->resident > touch->pages)
            return false;
        PageRange range{touch->first * kPageBytes, (touch->first + touch->pages) * kPageBytes};
        PageOwner owner{touch->owner, record->account, touch->stack};
        uint64_t resident = touch->resident * kPageBytes;
        if (touch->touched < touch->pages) {
            PageRange page{range.start + touch->touched * kPageBytes, range.start + (touch->touched + 1) * kPageBytes};
            claim(record->account, page, owner, touch->anonymous);
            claim_unowned(record->account, range, resident - kPageBytes, owner, touch->anonymous);
        } else if (touch->resident == touch->pages) {
            claim(record->account, range, owner, touch->anonymous);
        } else {
            claim_unowned(record->account, range, resident, owner, touch->anonymous);
        }
        return true;
    }
    if (record->kind == MT_RECORD_MOVE) {
        auto moved = read<mt_move_record>(bytes);
        if (!moved || moved->end < moved->start)
            return false;
        if (moved->to)
            move(record->account, {moved->start, moved->end}, moved->to);
        else
            drop(record->account, {moved->start, moved->end});
        return true;
    }
    auto inherited = read<mt_inherit_record>(bytes);
    if (!inherited || record->kind != MT_RECORD_INHERIT)
        return false;
    inherit(record->account, inherited->parent);
    return true;
}

OwnedRanges::Ranges::const_iterator OwnedRanges::first_behind(uint32_t account, uint64_t address) const {
    auto at = ranges_.upper_bound({account, address});
    if (at != ranges_.begin() && std::prev(at)->first.first == account && std::prev(at)->second.end > address)
        return std::prev(at);
    return at;
}

void OwnedRanges::insert(uint32_t account, uint64_t start, const Range &range) {
    auto next = ranges_.lower_bound({account, start});
    if (next != ranges_.begin()) {
        auto &[key, before] = *std::prev(next);
        bool whole = before.resident == before.end - key.second && range.resident == range.end - start;
        if (key.first == account && before.end == start && before.owner == range.owner &&
            before.anonymous == range.anonymous && whole) {
            before.end = range.end;
            before.resident += range.resident;
            return;
        }
    }
    if (ranges_.size() >= most_) {
        dropped_[account]++;
        return;
    }
    ranges_.emplace_hint(next, std::pair{account, start}, range);
}

// Takes the range out, and returns what was in it. What turns out to have been `absent` takes no share of what is
// resident with it.
std::vector<std::pair<uint64_t, OwnedRanges::Range>> OwnedRanges::cut(uint32_t account, PageRange range, bool absent) {
    std::vector<std::pair<uint64_t, Range>> parts;
    auto found = first_behind(account, range.start);
    for (auto at = ranges_.erase(found, found);
         at != ranges_.end() && at->first.first == account && at->first.second < range.end;) {
        uint64_t start = at->first.second;
        Range whole = at->second;
        at = ranges_.erase(at);
        uint64_t from = std::max(start, range.start), to = std::min(whole.end, range.end);
        uint64_t shared_by = whole.end - start;
        if (absent && whole.resident < shared_by) {
            shared_by -= to - from;
            whole.resident = std::min(whole.resident, shared_by);
        }
        auto part = [&](uint64_t piece_from, uint64_t piece_to) {
            Range piece = whole;
            piece.end = piece_to;
            piece.resident = share(whole.resident, piece_to - piece_from, shared_by);
            return piece;
        };
        parts.emplace_back(from, part(from, to));
        if (start < from)
            insert(account, start, part(start, from));
        if (to < whole.end) {
            insert(account, to, part(to, whole.end));
            break;
        }
    }
    return parts;
}

void OwnedRanges::claim(uint32_t account, PageRange range, PageOwner owner, bool anonymous) {
    cut(account, range, true);
    insert(account, range.start, {range.end, range.end - range.start, owner, anonymous});
}

void OwnedRanges::claim_unowned(uint32_t account, PageRange range, uint64_t resident, PageOwner owner, bool anonymous) {
    std::vector<PageRange> gaps;
    uint64_t from = range.start, unowned = 0;
    auto add_gap = [&](uint64_t to) {
        if (from < to) {
            gaps.push_back({from, to});
            unowned += to - from;
        }
    };
    for (auto at = first_behind(account, range.start);
         at != ranges_.end() && at->first.first == account && at->first.second < range.end; ++at) {
        add_gap(at->first.second);
        from = at->second.end;
    }
    add_gap(range.end);
    for (const PageRange &gap : gaps) {
        uint64_t part = share(resident, gap.end - gap.start, unowned);
        insert(account, gap.start, {gap.end, part, owner, anonymous});
        // Of what is left, so that the parts add up.
        resident -= std::min(resident, part);
        unowned -= gap.end - gap.start;
    }
}

void OwnedRanges::drop(uint32_t account, PageRange range) {
    cut(account, range, false);
}

void OwnedRanges::move(uint32_t account, PageRange range, uint64_t to) {
    auto parts = cut(account, range, false);
    cut(account, {to, to + (range.end - range.start)}, false);
    for (auto &[start, part] : parts) {
        part.end = part.end - range.start + to;
        insert(account, start - range.start + to, part);
    }
}

void OwnedRanges::inherit(uint32_t child, uint32_t parent) {
    forget(child);
    std::vector<std::pair<uint64_t, Range>> rows;
    for (auto at = ranges_.lower_bound({parent, 0}); at != ranges_.end() && at->first.first == parent; ++at)
        rows.emplace_back(at->first.second, at->second);
    for (auto &[start, range] : rows) {
        if (!range.anonymous)
            range.resident = 0;  // until it is faulted in again
        insert(child, start, range);
    }
}

void OwnedRanges::forget(uint32_t account) {
    ranges_.erase(ranges_.lower_bound({account, 0}),
                  ranges_.upper_bound({account, std::numeric_limits<uint64_t>::max()}));
    dropped_.erase(account);
}

std::optional<PageOwner> OwnedRanges::owner_of(uint32_t account, uint64_t address) const {
    auto at = first_behind(account, address);
    if (at == ranges_.end() || at->first.first != account || at->first.second > address)
        return std::nullopt;
    return at->second.owner;
}

std::map<PageOwner, int64_t> OwnedRanges::resident(uint32_t account, const std::vector<PageRange> &present) const {
    std::map<PageOwner, int64_t> owners;
    auto add = [&owners](PageOwner owner, uint64_t bytes) {
        if (bytes)
            owners[owner] += static_cast<int64_t>(bytes);
    };
    for (const PageRange &range : present) {
        uint64_t from = range.start;
        for (auto at = first_behind(account, from);
             at != ranges_.end() && at->first.first == account && at->first.second < range.end; ++at) {
            uint64_t start = std::max(at->first.second, range.start), end = std::min(at->second.end, range.end);
            add({}, start - from);
            add(at->second.owner, end - start);
            from = end;
        }
        add({}, range.end - from);
    }
    return owners;
}

std::map<PageOwner, int64_t> OwnedRanges::resident(uint32_t account) const {
    std::map<PageOwner, int64_t> owners;
    for (auto at = ranges_.lower_bound({account, 0}); at != ranges_.end() && at->first.first == account; ++at)
        if (at->second.resident)
            owners[at->second.owner] += static_cast<int64_t>(at->second.resident);
    return owners;
}

size_t OwnedRanges::count(uint32_t account) const {
    return static_cast<size_t>(std::distance(ranges_.lower_bound({account, 0}),
                                             ranges_.upper_bound({account, std::numeric_limits<uint64_t>::max()})));
}

uint64_t OwnedRanges::dropped(uint32_t account) const {
    auto found = dropped_.find(account);
    return found == dropped_.end() ? 0 : found->second;
}

}  // namespace memtrace
