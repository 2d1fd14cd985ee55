// SPDX-License-Identifier: Apache-2.0
// Objects that the program still refers to.
#include <fmt/format.h>

#include <algorithm>

#include "explain/causes/causes.h"
#include "explain/causes/figures.h"
#include "explain/explain.h"

namespace memtrace {

void live_objects(const Explanation &explanation, std::vector<Finding> &findings) {
    const Census &census = explanation.census;
    Finding finding{.cause = "live_objects"};
    uint64_t numbers = census.numbers_alive * 24;
    finding.bytes = explanation.layer("pymalloc_live") + explanation.layer("mimalloc_live") +
                    static_cast<int64_t>(census.heap_objects + census.mapped_objects + numbers);
    // What waits for the garbage collector has that cause.
    if (explanation.garbage)
        finding.bytes -= std::min(finding.bytes, static_cast<int64_t>(explanation.garbage->bytes));
    nlohmann::ordered_json types = nlohmann::ordered_json::array();
    for (const TypeCount &type : census.types) {
        if (types.size() == 10)
            break;
        types.push_back({{"type", type.type}, {"objects", type.objects}, {"bytes", type.bytes + type.buffer_bytes}});
        if (finding.evidence.size() < 3)
            finding.evidence.push_back(fmt::format("{} objects of type {}: {}{}.", type.objects, type.type,
                                                   in_mib(type.bytes + type.buffer_bytes),
                                                   type.buffer_bytes ? ", with their buffers" : ""));
    }
    finding.summary = "The program still refers to these objects: they are in use.";
    finding.figures = figures({{"types", types}, {"small_buffer_bytes", census.small_buffers.bytes}});
    finding.remedies = {{"drop the references, if they are not needed", std::nullopt}};
    findings.push_back(std::move(finding));
}

}  // namespace memtrace
