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
        "{} lie in huge pages (AnonHugePages in /proc/{}/smaps, which has not those that the kernel maps page by page); {} "
        "beside what was written hold nothing but zeros.",
        in_mib(static_cast<uint64_t>(explanation.huge_page_bytes)), explanation.pid,
        in_mib(static_cast<uint64_t>(bytes)))};
    finding.figures = figures({{"huge_page_bytes", explanation.huge_page_bytes}, {"zero_bytes", bytes}});
    finding.remedies = {
        {"keep huge pages away from that memory: by madvise(MADV_NOHUGEPAGE) before it is touched, by starting the program "
         "with NUMPY_MADVISE_HUGEPAGE=0 where it is numpy's, or by never in /sys/kernel/mm/transparent_hugepage/enabled",
         bytes}};
    findings.push_back(std::move(finding));
}

}  // namespace memtrace
