// SPDX-License-Identifier: Apache-2.0
// The account of one address space, as sums.
//
//      start  +  grown  -  returned  +  unexplained  =  end          for anonymous, file and shared pages apart
//
// start and end are what the kernel counted when the account was opened and closed. grown and returned are the sums of
// what was charged to owners, event by event. The two are counted apart, so unexplained is a finding and not a plug:
//
//      a list of 38 MiB, half of it freed:   start 9.0   grown 38.0   returned 19.0   end 28.0   unexplained 0.0
//      the same with 1 MiB of events lost:   start 9.0   grown 37.0   returned 19.0   end 28.0   unexplained 1.0
//
// Everything here is a pure function of what the kernel's maps held. Bytes throughout.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "collect/account_data.h"
#include "symbolize/code_table.h"
#include "symbolize/native_table.h"

namespace memtrace {

struct Balance {
    int64_t start = 0;
    int64_t end = 0;
    int64_t grown = 0;
    int64_t returned = 0;

    int64_t unexplained() const {
        return end - start - (grown - returned);
    }
    Balance &operator+=(const Balance &other);
};

// The three kinds of resident pages; total() is RSS.
struct Balances {
    Balance file, anonymous, shared;

    Balance total() const;
};

Balances balance(const AccountData &data, int64_t page_bytes);

// What became resident by one charge, all kinds of pages together.
int64_t grown_bytes(const mt_charge &charge, int64_t page_bytes);

// One source line, or one owner that is none: charged for everything at it and below it, once.
struct LineSum {
    int64_t grown = 0;
    int64_t returned = 0;
    int64_t rss_after = 0;  // RSS after the last change charged here
    int64_t peak = 0;       // highest RSS seen at a change charged here
    uint64_t last_sequence = 0;
};

struct LineKey {
    std::string file;
    std::string function;
    int first_line = 0;  // of the function
    int line = 0;        // 0: the function is known and the line is not

    auto operator<=>(const LineKey &) const = default;
};

// Inclusive sums, recursion counted once. `codes` get the code objects of every function met.
std::map<LineKey, LineSum> sum_lines(const AccountData &data, const CodeTable &codes, int64_t page_bytes,
                                     std::map<LineKey, const CodeObject *> *functions);

// How often the line probe was hit at each line. `functions` as in sum_lines; one that no memory was charged to is
// null, and its first line 0.
std::map<LineKey, uint64_t> sum_occurrences(const AccountData &data, const CodeTable &codes,
                                            std::map<LineKey, const CodeObject *> *functions);

// Where a change happened, innermost: a line, or an owner's name in brackets. Of "[no python frame]" file and function
// are native code's, where that is known.
struct Place {
    std::string file;
    std::string function;
    int line = 0;
    std::string owner;  // empty when the place is a line

    auto operator<=>(const Place &) const = default;
};

// "file:line (function)", or the owner's name.
std::string in_words(const Place &place);

// How often each function was entered, by its name and the line entered at: its first, or where a generator goes on.
std::map<Place, uint64_t> sum_entries(const AccountData &data, const CodeTable &codes);

// Every byte has an owner: "python" for all stacks together, else "[no python frame]" and so on.
std::map<std::string, LineSum> sum_owners(const AccountData &data, const CodeTable &codes, int64_t page_bytes);

// Of "[no python frame]": the native functions that are known, and the library routines that they called, if any.
std::map<std::pair<Place, std::string>, LineSum> sum_native(const AccountData &data, const NativeTable &natives,
                                                            int64_t page_bytes);

// Who touched a page first, with --owners.
Place place_of_page(const PageOwner &owner, const CodeTable &codes, const NativeTable &natives);

// Of what is resident, with --owners.
std::map<Place, int64_t> sum_resident(const AccountData &data, const CodeTable &codes, const NativeTable &natives);

struct CopySum {
    int64_t bytes = 0;
    // Of these, by a write to a small Python object's reference count or the collector's marks; and by one while the
    // garbage collector ran, which is 0 where its collections are not counted.
    int64_t header_bytes = 0;
    int64_t collection_bytes = 0;
};

// Pages that were copied on write because another process had them too, with --owners.
std::map<Place, CopySum> sum_copies(const AccountData &data, const CodeTable &codes, const NativeTable &natives,
                                    int64_t page_bytes);

struct ReturnSum {
    int64_t bytes = 0;
    uint64_t count = 0;  // system calls, or for "reclaim" and "other" kernel events
};

// By how ("munmap", "brk", "madvise", "mremap", "mmap", "reclaim", "other") and where.
std::map<std::pair<std::string, Place>, ReturnSum> sum_returns(const AccountData &data, const CodeTable &codes,
                                                               const NativeTable &natives, int64_t page_bytes);

struct CallTotal {
    uint64_t count = 0;
    int64_t length_bytes = 0;
    int64_t rss_bytes = 0;
};

// By enum mt_call_kind.
std::map<mt_call_kind, CallTotal> sum_calls(const AccountData &data, int64_t page_bytes);

struct ArenaSum {
    uint64_t created = 0;
    uint64_t released = 0;
};

// The interpreter's arenas by the place that made or released them.
std::map<Place, ArenaSum> sum_arenas(const AccountData &data, const CodeTable &codes);

// Garbage collections, together or of some kind.
struct CollectionSum {
    uint64_t count = 0;
    uint64_t objects = 0;  // collected
    uint64_t pause_ns = 0;
    uint64_t longest_pause_ns = 0;
    int64_t rss_change = 0;  // of the process, from their starts to their ends
    std::map<uint64_t, uint64_t>
        histogram;  // longest pause of a bucket, a power of two of microseconds, in ns -> count
};

struct Collections {
    std::map<int, CollectionSum> by_generation;
    std::map<Place, CollectionSum> by_place;  // the line that was running: it triggered the collection
};

Collections sum_collections(const AccountData &data, const CodeTable &codes, int64_t page_bytes);

}  // namespace memtrace
