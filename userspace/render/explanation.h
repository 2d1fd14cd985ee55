// SPDX-License-Identifier: Apache-2.0
// Parts of an explanation, which reports of tracing end with too.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "explain/explain.h"

namespace memtrace {

// `at_programs_end`: of a process that has ended since.
void render_findings(std::string &out, const std::vector<Finding> &findings, bool at_programs_end = false);
void render_incomplete(std::string &out, const std::vector<std::string> &incomplete);
nlohmann::ordered_json render_layers(const std::vector<Layer> &layers);
nlohmann::ordered_json render_findings(const std::vector<Finding> &findings);

}  // namespace memtrace
