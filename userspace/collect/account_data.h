// SPDX-License-Identifier: Apache-2.0
// What the kernel's maps held for one account: the value that collecting ends with, and the ledger begins with.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "ledger/owned_ranges.h"
#include "memtrace/wire.h"

namespace memtrace {

using ChargeRow = std::pair<mt_charge_key, mt_charge>;
using CallRow = std::pair<mt_call_key, mt_call_sum>;
using LineRow = std::pair<mt_line_key, mt_line_row>;
using CopyRow = std::pair<mt_charge_key, uint64_t>;  // pages copied on write
using CollectionRow = std::pair<mt_collection_key, mt_collection_sum>;

// An import that begins or ends, by python:import__find__load__start and __done.
struct ImportEvent {
    uint32_t thread = 0;
    bool begins = false;
    bool found = false;
    uint64_t ns = 0;
    int64_t rss_bytes = 0;  // of the process
    std::string module;
};

// Whose pages were resident at the end. With --owners.
struct ResidentOwners {
    std::map<PageOwner, int64_t> bytes;
    bool checked = false;  // page by page with the kernel; a process that has ended cannot be asked
    size_t ranges = 0;
    uint64_t dropped = 0;  // ranges
};

struct AccountData {
    mt_account account{};
    std::vector<ChargeRow> charges;
    std::vector<CallRow> calls;
    std::vector<LineRow> lines;  // that the line and function probes named
    std::vector<CollectionRow> collections;
    std::vector<CopyRow> copies;
    std::vector<ImportEvent> imports;  // in the order in which they happened
    std::optional<ResidentOwners> resident;
};

// Leaves the sums, which are then of no line: a stack of 0 never arrived. Of collections all is left.
void drop_places(AccountData &data);

}  // namespace memtrace
