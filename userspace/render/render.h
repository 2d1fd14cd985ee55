// SPDX-License-Identifier: Apache-2.0
// Pure functions from a report to text.
#pragma once

#include <string>

#include "collect/session.h"
#include "report/diagnosis.h"
#include "report/report.h"

namespace memtrace {

// For people. With `all_functions`, also those of the standard library and of installed packages.
std::string render_table(const Report &report, bool all_functions);

// The contract of docs/report.schema.json.
std::string render_json(const Report &report);

// What memtrace doctor found: for people, and as docs/doctor.schema.json describes it.
std::string render_doctor_table(const Diagnosis &diagnosis);
std::string render_doctor_json(const Diagnosis &diagnosis);

// One line, without its end.
std::string render_status(const Progress &progress);

// A target's text without what a terminal would obey.
std::string printable(const std::string &text);

// "-7.63 MiB"; two decimals, as memory_profiler prints.
std::string render_mib(int64_t bytes);

}  // namespace memtrace
