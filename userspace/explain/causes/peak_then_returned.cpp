// SPDX-License-Identifier: Apache-2.0
// It did go back: the process has been larger.
#include <fmt/format.h>

#include <algorithm>

#include "explain/causes/causes.h"
#include "explain/causes/figures.h"
#include "explain/explain.h"

namespace memtrace {

void peak_then_returned(const Explanation &explanation, std::vector<Finding> &findings) {
    if (!explanation.peak_rss_bytes)
        return;
    Finding finding{.cause = "peak_then_returned", .bytes = *explanation.peak_rss_bytes - explanation.rss_bytes};
    finding.summary = fmt::format("The process was larger once, by {}, and has given that back.",
                                  in_mib(static_cast<uint64_t>(std::max<int64_t>(0, finding.bytes))));
    finding.evidence = {fmt::format("VmHWM in /proc/{}/status is {}; {} are resident now.", explanation.pid,
                                    in_mib(static_cast<uint64_t>(*explanation.peak_rss_bytes)),
                                    in_mib(static_cast<uint64_t>(explanation.rss_bytes)))};
    finding.figures = figures({{"peak_bytes", *explanation.peak_rss_bytes}, {"rss_bytes", explanation.rss_bytes}});
    finding.remedies = {{"none is needed", 0}};
    findings.push_back(std::move(finding));
}

}  // namespace memtrace
