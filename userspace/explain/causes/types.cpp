// SPDX-License-Identifier: Apache-2.0
#include "explain/causes/types.h"

#include <fmt/format.h>

#include "base/counted.h"

namespace memtrace {

nlohmann::ordered_json tell_types(Finding &finding, std::span<const TypeCount> types) {
    constexpr size_t kSentences = 3, kRows = 10;
    nlohmann::ordered_json rows = nlohmann::ordered_json::array();
    for (const TypeCount &type : types.first(std::min(types.size(), kRows))) {
        uint64_t bytes = type.bytes + type.buffer_bytes;
        rows.push_back({{"type", type.type}, {"objects", type.objects}, {"bytes", bytes}});
        if (rows.size() <= kSentences)
            finding.evidence.push_back(fmt::format("{} of type {}: {}{}.", counted(type.objects, "object"), type.type,
                                                   in_mib(bytes), !type.buffer_bytes     ? ""
                                                   : type.objects == 1 ? ", with its buffer"
                                                                       : ", with their buffers"));
    }
    return rows;
}

}  // namespace memtrace
