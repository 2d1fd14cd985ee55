// SPDX-License-Identifier: Apache-2.0
// Evidence that is a list of types, as more than one cause has it.
#pragma once

#include <algorithm>
#include <nlohmann/json.hpp>
#include <map>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "explain/causes/causes.h"
#include "explain/census.h"

namespace memtrace {

// The first ten of these for programs, and the first three as sentences of the finding.
nlohmann::ordered_json tell_types(Finding &finding, std::span<const TypeCount> types);

// By their numbers, the largest first.
inline std::vector<std::pair<std::string, uint64_t>> most_first(const std::map<std::string, uint64_t> &counts) {
    std::vector<std::pair<std::string, uint64_t>> sorted(counts.begin(), counts.end());
    std::sort(sorted.begin(), sorted.end(), [](const auto &a, const auto &b) { return a.second > b.second; });
    return sorted;
}

}  // namespace memtrace
