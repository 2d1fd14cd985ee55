// SPDX-License-Identifier: Apache-2.0
// What was missed while tracing, in words: what each name in a report's `failures` means for its figures.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace memtrace {

// "accounts_full: 3 processes were not followed: ...". Of a name that is not known, the name and its count.
std::string describe_failure(const std::string &name, uint64_t count);

// All names that have a sentence; docs/how_it_works.md and docs/report.schema.json have the same.
std::vector<std::string> described_failures();

}  // namespace memtrace
