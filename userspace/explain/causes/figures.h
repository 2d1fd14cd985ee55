// SPDX-License-Identifier: Apache-2.0
// A finding's evidence, for programs.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace memtrace {

// Names are the target's, and may be no text: what is not is replaced.
inline std::string figures(const nlohmann::ordered_json &evidence) {
    return evidence.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

}  // namespace memtrace
