// SPDX-License-Identifier: Apache-2.0
// Whose pages are these: ranges of addresses, each with the place whose touch made it resident. With --owners.
//
//      line 7 touches 1000-5000         1000-5000 line 7
//      line 8 touches 5000-6000         1000-5000 line 7   5000-6000 line 8
//      munmap 2000-3000                 1000-2000 line 7   3000-5000 line 7   5000-6000 line 8
//      mremap 3000-6000 to 9000         1000-2000 line 7   9000-b000 line 7   b000-c000 line 8
//
// A page that comes again is its newest toucher's. What left without a call (the kernel took it, or MADV_FREE) stays
// here: what is resident must be asked of the kernel (process/present_pages.h), and resident() takes its answer.
//
// Pure, and of all accounts together, so that there is one bound: a range more than that is not kept, and counted; its
// pages have no owner. Addresses and sizes in bytes, of whole pages.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "memtrace/wire.h"
#include "process/present_pages.h"

namespace memtrace {

struct PageOwner {
    unsigned owner = MT_OWNER_ADDRESS_UNKNOWN;  // enum mt_owner
    uint32_t account = 0;                       // whose stack it is: of a forked child also its parents'
    uint64_t stack = 0;                         // as in mt_charge_key

    auto operator<=>(const PageOwner &) const = default;
};

class OwnedRanges {
  public:
    static constexpr size_t kMaxRanges = 1 << 18;  // 25 MiB of our own

    explicit OwnedRanges(size_t most = kMaxRanges) : most_(most) {}

    // Takes a record from the ring buffer. Returns false for one that is malformed.
    bool add(std::span<const uint8_t> record);

    // The whole range is this owner's now. Fork copies the page tables of `anonymous` memory only.
    void claim(uint32_t account, PageRange range, PageOwner owner, bool anonymous = true);
    // `resident` bytes of what nobody has in this range are; which of them is not known.
    void claim_unowned(uint32_t account, PageRange range, uint64_t resident, PageOwner owner, bool anonymous);
    void drop(uint32_t account, PageRange range);
    void move(uint32_t account, PageRange range, uint64_t to);
    // A forked child has what its parent has.
    void inherit(uint32_t child, uint32_t parent);
    void forget(uint32_t account);

    // Null when that is not known.
    std::optional<PageOwner> owner_of(uint32_t account, uint64_t address) const;
    // Bytes of each owner: of pages that are present, with MT_OWNER_ADDRESS_UNKNOWN for those that have none here; or
    // as told, when the process can no longer be asked.
    std::map<PageOwner, int64_t> resident(uint32_t account, const std::vector<PageRange> &present) const;
    std::map<PageOwner, int64_t> resident(uint32_t account) const;

    size_t count(uint32_t account) const;
    // Ranges of an account that there was no room for.
    uint64_t dropped(uint32_t account) const;

  private:
    struct Range {
        uint64_t end = 0;
        uint64_t resident = 0;  // bytes; fewer than there are: nobody has told which
        PageOwner owner;
        bool anonymous = true;
    };
    using Ranges = std::map<std::pair<uint32_t, uint64_t>, Range>;  // by account and start

    // The first range of the account that ends behind `address`, or one of a later account.
    Ranges::const_iterator first_behind(uint32_t account, uint64_t address) const;
    void insert(uint32_t account, uint64_t start, const Range &range);
    std::vector<std::pair<uint64_t, Range>> cut(uint32_t account, PageRange range, bool absent);

    size_t most_;
    Ranges ranges_;
    std::map<uint32_t, uint64_t> dropped_;
};

}  // namespace memtrace
