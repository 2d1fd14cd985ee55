// SPDX-License-Identifier: Apache-2.0
// Which line an instruction is of: the tables of code objects in all their formats, bytes in, lines out.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <set>
#include <span>
#include <vector>

#include "memtrace/wire.h"

namespace memtrace {

// The table of one code object, decoded once: a process may have one of millions of entries, and thousands of places in
// it.
class CodeLines {
  public:
    static constexpr int32_t kNone = -1;  // one that the table does not give, or that cannot be

    // Of a table that is not known: no instruction has a line.
    CodeLines() = default;
    // A table that is damaged ends where the damage is. `first_line` is what the table's lines count from.
    CodeLines(mt_line_format format, std::span<const uint8_t> table, int first_line);

    // The line of the instruction at `byte_offset` from the first one. Before the first instruction: `first_line`. Null
    // where the table gives no line, or ends before.
    std::optional<int> at(int64_t byte_offset) const;
    // All lines that have an instruction.
    std::set<int> all() const;
    // Of ours that it takes.
    size_t bytes() const {
        return ranges_.capacity() * sizeof(Range);
    }

  private:
    struct Range {
        uint32_t end = 0;  // offset in bytes; it begins where the one before ends
        int32_t line = kNone;
    };

    std::vector<Range> ranges_;
    std::optional<int> first_line_;
};

}  // namespace memtrace
