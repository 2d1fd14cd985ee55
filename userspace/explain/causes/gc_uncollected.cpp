// SPDX-License-Identifier: Apache-2.0
// Objects in cycles that nothing refers to any more: they wait for a garbage collection.
#include "explain/causes/causes.h"
#include "explain/causes/figures.h"
#include "explain/causes/types.h"
#include "explain/explain.h"

namespace memtrace {

void gc_uncollected(const Explanation &explanation, std::vector<Finding> &findings) {
    if (!explanation.garbage)
        return;
    const Garbage &garbage = *explanation.garbage;
    Finding finding{.cause = "gc_uncollected", .bytes = static_cast<int64_t>(garbage.bytes)};
    finding.summary =
        "Objects that refer to each other, and that nothing else refers to, wait for the garbage collector.";
    nlohmann::ordered_json types = tell_types(finding, garbage.types);
    finding.figures = figures({{"objects", garbage.objects}, {"types", types}});
    finding.remedies = {{"gc.collect()", released_with_arenas(explanation, garbage.arenas, garbage.arena_bytes)}};
    findings.push_back(std::move(finding));
}

}  // namespace memtrace
