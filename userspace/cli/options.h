// SPDX-License-Identifier: Apache-2.0
// What a person typed, checked.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "collect/kernel.h"
#include "collect/tracer.h"
#include "report/build_report.h"

namespace memtrace {

enum class Command { kAttach, kRun, kExplain, kDoctor };
enum class Format { kTable, kJson };

struct Options {
    Command command = Command::kAttach;
    std::vector<int> pids;             // kAttach; kExplain: one; kDoctor: one at most
    std::optional<double> duration_s;  // kAttach
    std::vector<std::string> argv;     // kRun
    bool children = true;
    Format format = Format::kTable;
    std::string output;  // empty: standard output (kAttach) or standard error (kRun)
    ReportFilter filter;
    bool redact = false;  // all but kDoctor
    bool look = true;  // at what is resident at the end
    double look_seconds = 10;
    uint64_t max_memory_bytes = 256 << 20;  // kAttach, kRun
    bool quiet = false;
    bool verbose = false;
    std::optional<RssSource> rss_source;  // null: the best there is
    Engine engine = Engine::kStack;
    bool function_calls = false;
    bool owners = false;
    bool imports = false;           // kRun
    bool freeze = false;            // kExplain
    bool empty_line_probe = false;  // scripts/bench
};

// Null when everything was said by --help or --version, which are printed. Throws Failure (kExitUsage).
std::optional<Options> parse_options(int argc, char **argv);

}  // namespace memtrace
