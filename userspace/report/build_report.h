// SPDX-License-Identifier: Apache-2.0
// From what was collected to what is said.
#pragma once

#include <string>
#include <vector>

#include "collect/session.h"
#include "report/last_look.h"
#include "report/report.h"

namespace memtrace {

// Which functions a person asked for. Empty lists mean all.
struct ReportFilter {
    std::vector<std::string> functions;  // names, qualified or not
    std::vector<std::string> files;      // glob patterns (fnmatch), against the whole path or its last part
};

// `session` is finished. Sources are read here, and processes that are still there looked into.
Report build_report(Session &session, const ReportFilter &filter, LastLook &look);

}  // namespace memtrace
