// SPDX-License-Identifier: Apache-2.0
// Memory that processes share, and that is in no file on a disk: counted in each of them that has touched it.
#include <fmt/format.h>

#include "explain/causes/causes.h"
#include "explain/causes/figures.h"
#include "explain/explain.h"

namespace memtrace {

void shared(const Explanation &explanation, std::vector<Finding> &findings) {
    constexpr size_t kMostSegments = 5;
    Finding finding{.cause = "shared", .bytes = explanation.layer("shared_memory")};
    finding.summary =
        "This is shared memory, which no file on a disk backs. It counts in each process that has touched it, and goes "
        "back when the last of them lets go.";
    nlohmann::ordered_json segments = nlohmann::ordered_json::array();
    for (const auto &[name, bytes] : explanation.shared_memory) {
        if (segments.size() == kMostSegments)
            break;
        segments.push_back({{"path", name}, {"resident_bytes", bytes}});
        finding.evidence.push_back(fmt::format("{} of {}.", in_mib(static_cast<uint64_t>(bytes)), name));
    }
    finding.figures = figures({{"shared_bytes", finding.bytes}, {"segments", segments}});
    finding.remedies = {
        {"close its mapping (mmap.close(), SharedMemory.close()) in every process that has it, and remove the name of a "
         "segment that has one (SharedMemory.unlink()), which deletes what is in it",
         finding.bytes}};
    findings.push_back(std::move(finding));
}

}  // namespace memtrace
