// SPDX-License-Identifier: Apache-2.0
// It did go back, while it was traced.
#include <fmt/format.h>

#include <algorithm>

#include "explain/causes/causes.h"
#include "explain/causes/figures.h"
#include "explain/explain.h"

namespace memtrace {

void returned(const Explanation &explanation, std::vector<Finding> &findings) {
    constexpr size_t kMostLines = 3;
    const std::vector<GivenBack> &returns = explanation.traced.returns;
    Finding finding{.cause = "returned"};
    nlohmann::ordered_json lines = nlohmann::ordered_json::array();
    for (const GivenBack &row : returns) {
        finding.bytes += row.bytes;
        if (lines.size() == kMostLines)
            continue;
        finding.evidence.push_back(
            fmt::format("{} by {} at {}.", in_mib(static_cast<uint64_t>(row.bytes)), row.how, row.line));
        lines.push_back({{"how", row.how}, {"line", row.line}, {"bytes", row.bytes}});
    }
    finding.summary = "The process gave this much back to the kernel while it was traced.";
    finding.figures = figures({{"lines", lines}});
    finding.remedies = {{"none is needed", 0}};
    findings.push_back(std::move(finding));
}

}  // namespace memtrace
