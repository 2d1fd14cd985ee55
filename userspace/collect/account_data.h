// SPDX-License-Identifier: Apache-2.0
// What the kernel's maps held for one account: the value that collecting ends with, and the ledger begins with.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "memtrace/wire.h"

namespace memtrace {

using ChargeRow = std::pair<mt_charge_key, mt_charge>;
using CallRow = std::pair<mt_call_key, mt_call_sum>;
using LineRow = std::pair<mt_line_key, mt_line_row>;
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

struct AccountData {
    mt_account account{};
    std::vector<ChargeRow> charges;
    std::vector<CallRow> calls;
    std::vector<LineRow> lines;  // that the line and function probes named
    std::vector<CollectionRow> collections;
    std::vector<ImportEvent> imports;  // in the order in which they happened
};

}  // namespace memtrace
