// SPDX-License-Identifier: Apache-2.0
// Objects that the program still refers to.
#include <algorithm>

#include "explain/causes/causes.h"
#include "explain/causes/figures.h"
#include "explain/causes/types.h"
#include "explain/explain.h"

namespace memtrace {

void live_objects(const Explanation &explanation, std::vector<Finding> &findings) {
    if (!explanation.census)
        return;
    const Census &census = *explanation.census;
    Finding finding{.cause = "live_objects"};
    uint64_t numbers = census.numbers_alive * 24;
    finding.bytes = explanation.layer("pymalloc_live") + explanation.layer("mimalloc_live") +
                    static_cast<int64_t>(census.heap_objects + census.mapped_objects + census.object_mappings + numbers);
    // What waits for the garbage collector has that cause.
    if (explanation.garbage)
        finding.bytes -= std::min(finding.bytes, static_cast<int64_t>(explanation.garbage->bytes));
    // So does what would still be another process's, had this one not written to it.
    finding.bytes -= std::min(finding.bytes, explanation.traced.copied_bytes());
    nlohmann::ordered_json types = tell_types(finding, census.types);
    finding.summary = "The program still refers to these objects: they are in use.";
    finding.figures = figures({{"types", types}, {"small_buffer_bytes", census.small_buffers.bytes}});
    finding.remedies = {{"drop the references, if they are not needed", std::nullopt}};
    findings.push_back(std::move(finding));
}

}  // namespace memtrace
