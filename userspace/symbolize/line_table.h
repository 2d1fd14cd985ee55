// SPDX-License-Identifier: Apache-2.0
// The lines that the line engine met, as its probe named them.
//
// Not thread-safe. Ids are the BPF programs' (mt_line_row.id), one a line and address space.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <unordered_map>

namespace memtrace {

struct ProbedLine {
    std::string file;
    std::string function;  // co_name: the name without its class
    int line = 0;
};

class LineTable {
  public:
    // Takes a record from the ring buffer; false when it is malformed.
    bool add(std::span<const uint8_t> record);
    // Null when there is none of this id. Owned by the table, and stays where it is.
    const ProbedLine *find(uint64_t id) const;

  private:
    std::unordered_map<uint64_t, ProbedLine> lines_;
};

}  // namespace memtrace
