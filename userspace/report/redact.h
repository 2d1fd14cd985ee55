// SPDX-License-Identifier: Apache-2.0
// --redact: a report that may be shown to those who may not see the program.
#pragma once

#include "explain/explain.h"
#include "report/report.h"

namespace memtrace {

// Leaves out source lines, and of command lines all but the first word. Names of files, functions, modules and types
// stay.
void redact(Report &report);
void redact(Explanation &explanation);

}  // namespace memtrace
