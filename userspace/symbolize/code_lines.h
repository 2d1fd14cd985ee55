// SPDX-License-Identifier: Apache-2.0
// Which line an instruction is of: the tables of code objects in all their formats, bytes in, lines out.
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <span>

#include "memtrace/wire.h"

namespace memtrace {

// The line of the instruction at `byte_offset` from the first one. Before the first instruction: `first_line`. Null
// where the table gives no line, or ends before.
std::optional<int> line_at(mt_line_format format, std::span<const uint8_t> table, int first_line, int64_t byte_offset);

// All lines that have an instruction.
std::set<int> lines_of(mt_line_format format, std::span<const uint8_t> table, int first_line);

}  // namespace memtrace
