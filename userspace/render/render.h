// SPDX-License-Identifier: Apache-2.0
// Pure functions from a report to text.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "collect/session.h"
#include "explain/explain.h"
#include "report/diagnosis.h"
#include "report/report.h"

namespace memtrace {

// For people. With `all_functions`, also those of the standard library and of installed packages.
std::string render_table(const Report &report, bool all_functions);

// The contract of docs/report.schema.json. There may be thousands of processes, so `write` gets it in pieces of whole
// lines, one after the other.
void render_json(const Report &report, const std::function<void(std::string_view)> &write);

// What memtrace doctor found: for people, and as docs/doctor.schema.json describes it.
std::string render_doctor_table(const Diagnosis &diagnosis);
std::string render_doctor_json(const Diagnosis &diagnosis);

// What memtrace explain found: for people, and as docs/explain.schema.json describes it.
std::string render_explanation_table(const Explanation &explanation);
std::string render_explanation_json(const Explanation &explanation);

// One line, without its end.
std::string render_status(const Progress &progress);

// A command line, cut when it is long.
std::string join_command(const std::vector<std::string> &words);

// "-7.63 MiB"; two decimals, as memory_profiler prints.
std::string render_mib(int64_t bytes);

}  // namespace memtrace
