// SPDX-License-Identifier: Apache-2.0
// Pages that were given up with MADV_FREE: the kernel takes them when it needs some, and counts them until then.
#include <fmt/format.h>

#include "explain/causes/causes.h"
#include "explain/causes/figures.h"
#include "explain/explain.h"

namespace memtrace {

void lazy_free(const Explanation &explanation, std::vector<Finding> &findings) {
    int64_t bytes = explanation.layer("lazy_free");
    if (!bytes)
        return;
    Finding finding{.cause = "lazy_free", .bytes = bytes};
    finding.summary =
        "The process has given these pages up (MADV_FREE). The kernel takes them when it needs memory, and counts "
        "them as resident until then.";
    finding.evidence = {fmt::format("The kernel says so: LazyFree in /proc/{}/smaps.", explanation.pid)};
    finding.figures = figures({{"lazy_free_bytes", bytes}});
    finding.remedies = {{"none is needed: under memory pressure all of it goes", 0}};
    findings.push_back(std::move(finding));
}

}  // namespace memtrace
