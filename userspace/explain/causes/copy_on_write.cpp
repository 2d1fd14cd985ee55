// SPDX-License-Identifier: Apache-2.0
// Pages that a fork left in common, until this process wrote to them. Only tracing sees that (--owners).
#include <fmt/format.h>

#include <algorithm>

#include "explain/causes/causes.h"
#include "explain/causes/figures.h"
#include "explain/explain.h"

namespace memtrace {

void copy_on_write(const Explanation &explanation, std::vector<Finding> &findings) {
    constexpr size_t kMostLines = 3;
    constexpr int64_t kLeastCollected = 64 << 10;  // worth a remedy
    const Traced &traced = explanation.traced;
    Finding finding{.cause = "copy_on_write", .bytes = traced.copied_bytes()};
    if (!finding.bytes)
        return;
    finding.summary =
        "After a fork the process had these pages in common with another one, and has copies of its own since it wrote "
        "to them. To read a Python object is to write to it: its reference count changes.";
    finding.evidence = {fmt::format(
        "{} of it by writes to the headers of small Python objects: their reference counts, and what the garbage "
        "collector marks there.",
        in_mib(static_cast<uint64_t>(traced.copied_header_bytes)))};
    const std::optional<int64_t> &collected = traced.copied_in_collections_bytes;
    if (!collected)
        finding.evidence.push_back(fmt::format("How much of it was written by the garbage collector is not known: {}.",
                                               traced.no_collections));
    else if (*collected)
        finding.evidence.push_back(
            fmt::format("{} of it while the garbage collector ran.", in_mib(static_cast<uint64_t>(*collected))));
    else if (traced.begun_by_fork)
        finding.evidence.push_back(
            "None of it while the garbage collector was seen to run: memtrace sees that from some milliseconds after "
            "the fork on.");
    else
        finding.evidence.push_back(
            "None of it while the garbage collector ran: gc.freeze() before the fork would not have helped.");
    nlohmann::ordered_json lines = nlohmann::ordered_json::array();
    for (size_t i = 0; i < std::min(traced.copies.size(), kMostLines); i++) {
        const auto &[line, bytes] = traced.copies[i];
        finding.evidence.push_back(fmt::format("{} of it at {}.", in_mib(static_cast<uint64_t>(bytes)), line));
        lines.push_back({{"line", line}, {"bytes", bytes}});
    }
    finding.figures =
        figures({{"header_bytes", traced.copied_header_bytes},
                 {"collection_bytes", collected ? nlohmann::ordered_json(*collected) : nlohmann::ordered_json()},
                 {"lines", lines}});
    if (!collected)
        finding.remedies.push_back(
            {"if gc.get_stats() counts collections of the oldest generation since the fork: call gc.freeze() before "
             "it, so "
             "that they leave those objects alone",
             std::nullopt, finding.bytes});
    else if (*collected >= kLeastCollected)
        finding.remedies.push_back(
            {"call gc.freeze() before the fork, so that the garbage collector leaves those objects alone", std::nullopt,
             *collected});
    finding.remedies.push_back(
        {"keep what children only read in few large buffers (bytes, array, mmap), and not in many objects",
         std::nullopt});
    findings.push_back(std::move(finding));
}

}  // namespace memtrace
