// SPDX-License-Identifier: Apache-2.0
// Memory that processes share: counted in each of them that has touched it.
#include <fmt/format.h>

#include "explain/causes/causes.h"
#include "explain/causes/figures.h"
#include "explain/explain.h"

namespace memtrace {

void shared(const Explanation &explanation, std::vector<Finding> &findings) {
    Finding finding{.cause = "shared", .bytes = explanation.layer("shared_memory")};
    finding.summary =
        "This memory is shared between processes, and counted in each that has touched it. It goes back when the "
        "last of them lets go.";
    finding.evidence = {
        fmt::format("Mappings marked 's' in /proc/{}/smaps, or of /dev/shm and memfd files.", explanation.pid)};
    finding.figures = figures({{"shared_bytes", finding.bytes}});
    finding.remedies = {{"unmap it, and unlink its file, in all processes that have it", std::nullopt}};
    findings.push_back(std::move(finding));
}

}  // namespace memtrace
