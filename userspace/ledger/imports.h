// SPDX-License-Identifier: Apache-2.0
// What each import cost, as a tree: a module, and what it pulled in that was not there yet.
//
//      start json                 json           own = total - those below
//        start json.decoder         json.decoder
//        done  json.decoder
//      done  json
//
// A pure function of the probes' records. Bytes and nanoseconds.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "collect/account_data.h"

namespace memtrace {

struct Import {
    std::string module;
    bool found = false;       // false: there is none of this name, or its import failed
    int64_t total_bytes = 0;  // how RSS changed from start to end
    int64_t own_bytes = 0;    // without what it pulled in
    uint64_t total_ns = 0;
    std::vector<Import> below;  // largest first
};

// Largest first. An import that has not ended is given up to the last event of its thread.
std::vector<Import> build_imports(const std::vector<ImportEvent> &events);

}  // namespace memtrace
