// SPDX-License-Identifier: Apache-2.0
// Python 2 keeps ints and floats in blocks of its own, 41 in each, and never gives one back.
#include <fmt/format.h>

#include <algorithm>

#include "base/counted.h"
#include "explain/causes/causes.h"
#include "explain/causes/figures.h"
#include "explain/explain.h"

namespace memtrace {

void free_list(const Explanation &explanation, std::vector<Finding> &findings) {
    if (!explanation.census || !explanation.census->number_slots)
        return;
    const Census &census = *explanation.census;
    Finding finding{.cause = "free_list"};
    finding.bytes = static_cast<int64_t>(census.number_blocks.bytes -
                                         std::min(census.number_blocks.bytes, census.numbers_alive * 24));
    finding.summary =
        "Python 2 keeps the room of ints and floats that are gone for the next ones. It never gives it back.";
    finding.evidence = {fmt::format("{} with room for {}: {} of these are in use.",
                                    counted(census.number_blocks.blocks, "block"),
                                    counted(census.number_slots, "number"), with_thousands(census.numbers_alive))};
    finding.figures = figures(
        {{"blocks", census.number_blocks.blocks}, {"slots", census.number_slots}, {"alive", census.numbers_alive}});
    finding.remedies = {
        {"gc.collect() frees blocks without a live number, but to the C heap: the resident set stays, until "
         "malloc_trim(0)",
         0}};
    findings.push_back(std::move(finding));
}

}  // namespace memtrace
