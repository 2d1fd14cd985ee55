// SPDX-License-Identifier: Apache-2.0
// Files that are mapped: programs and libraries, and what the program maps itself.
#include <fmt/format.h>

#include "explain/causes/causes.h"
#include "explain/causes/figures.h"
#include "explain/explain.h"

namespace memtrace {

void file_cache(const Explanation &explanation, std::vector<Finding> &findings) {
    Finding finding{.cause = "file_cache",
                    .bytes = explanation.layer("file_mappings") + explanation.layer("file_private")};
    finding.summary =
        "These are pages of files: programs, libraries, and files that the program maps. Most the kernel can drop at "
        "any "
        "time, and read again.";
    nlohmann::ordered_json files = nlohmann::ordered_json::array();
    for (const auto &[path, bytes] : explanation.largest_files) {
        files.push_back({{"path", path}, {"resident_bytes", bytes}});
        finding.evidence.push_back(fmt::format("{} of {}.", in_mib(static_cast<uint64_t>(bytes)), path));
    }
    finding.figures = figures({{"files", files}, {"changed_bytes", explanation.layer("file_private")}});
    finding.remedies = {{"none is needed: the kernel drops clean pages when memory is short", std::nullopt}};
    findings.push_back(std::move(finding));
}

}  // namespace memtrace
