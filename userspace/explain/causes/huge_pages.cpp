// SPDX-License-Identifier: Apache-2.0
// With transparent huge pages one touched byte makes 2 MiB resident, or more where pages are larger than 4 KiB.
#include <fmt/format.h>

#include "explain/causes/causes.h"
#include "explain/causes/figures.h"
#include "explain/explain.h"

namespace memtrace {

void huge_pages(const Explanation &explanation, std::vector<Finding> &findings) {
    int64_t bytes = explanation.layer("huge_page_zeros");
    if (!bytes)
        return;
    Finding finding{.cause = "huge_pages", .bytes = bytes};
    finding.summary =
        "The kernel made whole huge pages resident, where the program has written a few bytes of each.";
    finding.evidence = {fmt::format(
        "{} of memory lie in huge pages (AnonHugePages in /proc/{}/smaps), and {} of these hold nothing but "
        "zeros.",
        in_mib(static_cast<uint64_t>(explanation.huge_page_bytes)), explanation.pid,
        in_mib(static_cast<uint64_t>(bytes)))};
    finding.figures = figures({{"huge_page_bytes", explanation.huge_page_bytes}, {"zero_bytes", bytes}});
    finding.remedies = {
        {"madvise(MADV_NOHUGEPAGE) on that memory before it is touched, or "
         "/sys/kernel/mm/transparent_hugepage/enabled set to madvise",
         bytes}};
    findings.push_back(std::move(finding));
}

}  // namespace memtrace
