// SPDX-License-Identifier: Apache-2.0
// The chain of calls by which most of the growth came.
//
//      grown   100 ┬ 80 main:7 ┬ 70 load:3 ┬ 30 parse:9     main:7, load:3: below, no line has half of what main:7 has
//                  └ 20 other  └ 10 …      └ 40 in itself
#pragma once

#include <cstdint>
#include <vector>

#include "collect/account_data.h"
#include "symbolize/code_table.h"

namespace memtrace {

struct ChainLink {
    Location at;
    int64_t grown = 0;  // by this line, called through those before it
};

// Outermost first; a line that recurs is in it once. Empty when nothing grew where a line is known.
std::vector<ChainLink> heaviest_chain(const AccountData &data, const CodeTable &codes, int64_t page_bytes);

}  // namespace memtrace
