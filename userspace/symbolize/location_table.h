// SPDX-License-Identifier: Apache-2.0
// Decoding CPython 3.11's co_linetable (Objects/locations.md): bytes in, lines out.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <set>
#include <span>

namespace memtrace {

// The line of the instruction at `byte_offset` from the first one. Before the first instruction: `first_line`. Null
// where the table gives no line, or ends before.
std::optional<int> line_at(std::span<const uint8_t> table, int first_line, int64_t byte_offset);

// All lines that have an instruction.
std::set<int> lines_of(std::span<const uint8_t> table, int first_line);

}  // namespace memtrace
