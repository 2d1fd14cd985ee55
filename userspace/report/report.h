// SPDX-License-Identifier: Apache-2.0
// What a session found, as values: built once (build_report), rendered many times (render/). Bytes throughout; a null
// is "not known", never 0. Field by field this is docs/report.schema.json.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "collect/tracer.h"
#include "report/last_look.h"
#include "ledger/imports.h"
#include "ledger/ledger.h"

namespace memtrace {

struct ReportLine {
    std::string file;
    std::string function;
    int line = 0;  // 0: not known
    std::optional<std::string> source;
    std::optional<LineSum> sum;           // null: nothing was charged to this line
    std::optional<uint64_t> occurrences;  // null: not counted (stack engine)

    int64_t increment() const {
        return sum ? sum->grown - sum->returned : 0;
    }
};

// A function that memory was charged to, with all its lines.
struct ReportFunction {
    std::string file;
    std::string function;
    int first_line = 0;
    bool of_a_library = false;  // the standard one or an installed package, and not the program's own
    int64_t grown = 0;          // by all lines
    int64_t returned = 0;
    std::vector<ReportLine> lines;  // by number
};

// One of the calls by which most of the growth came.
struct ReportChainLink {
    std::string file;
    std::string function;
    int first_line = 0;  // of the function
    int line = 0;        // 0: not known
    std::optional<std::string> source;
    int64_t grown = 0;
};

// A function and the line at which it was entered: its first, or where a generator goes on.
struct ReportCalls {
    Place place;
    uint64_t count = 0;
    std::optional<int64_t> grown;  // by all lines of the function entered at its first line; null: nothing was charged
};

// A native function that changed memory where no Python function ran.
struct ReportNative {
    Place place;
    std::string by;  // the library routine that it called; empty when it did so itself
    LineSum sum;
};

struct ReportReturn {
    std::string how;
    Place place;
    ReturnSum sum;
};

// Pages that this process had in common with its parent or children until it wrote to them.
struct ReportCopies {
    std::vector<std::pair<Place, CopySum>> rows;  // largest first
    CopySum all;
    int64_t pages = 0;
};

// Who touched first what was resident at the end. Its rows and `unexplained` add up to RSS.
struct ReportResident {
    std::vector<std::pair<Place, int64_t>> rows;  // bytes, largest first
    int64_t unexplained = 0;
    bool checked = false;  // page by page with the kernel
    uint64_t ranges = 0;
    uint64_t dropped = 0;
};

struct ReportPython {
    std::string version;
    std::optional<bool> free_threaded;             // null: not known
    bool jit = false;                              // code was compiled as it ran: lines are approximate
    std::optional<std::string> refusal;            // why lines are not known
    std::optional<std::vector<std::string>> usdt;  // the python: probes that may be used; null: not known
};

struct ReportArenas {
    int64_t size_bytes = 0;
    std::optional<uint64_t> start;  // null after an attach: only the allocator itself could tell
    std::optional<uint64_t> end;
    uint64_t created = 0;
    uint64_t released = 0;
    std::map<Place, ArenaSum> places;
};

// What an interpreter's probes would have told, and why they were not listened to.
struct MissingFigure {
    Probed what;
    std::string reason;
};

struct ReportProcess {
    int pid = 0;
    int parent_pid = 0;  // 0: not forked from a process in this report
    std::vector<std::string> cmdline;
    std::optional<std::string> cgroup;
    std::string opened_by;  // "attach", "exec", "fork"
    std::string closed_by;  // "detach", "exit", "exec"
    uint64_t opened_ns = 0;  // of the monotonic clock; a report has them in this order
    uint64_t duration_ns = 0;
    std::optional<ReportPython> python;  // null: no CPython was found in it
    Balances balances;
    int64_t peak_bytes = 0;
    std::vector<ReportFunction> functions;        // by gross change, largest first
    std::vector<ReportChainLink> heaviest_chain;  // outermost first
    std::map<std::string, LineSum> owners;
    std::vector<ReportNative> native;        // largest first; of owners["[no python frame]"]
    std::vector<ReportReturn> returns;       // largest first
    std::optional<ReportCopies> copies;      // null: not asked for
    std::optional<ReportResident> resident;  // null: not asked for
    std::map<mt_call_kind, CallTotal> calls;
    std::optional<ReportArenas> arenas;
    std::optional<std::vector<Import>> imports;              // null: not asked for, or `missing` says why
    std::optional<std::vector<ReportCalls>> function_calls;  // most first; null: not asked for, or `missing` says why
    std::optional<Collections> collections;                  // null: `missing` says why, of a process with Python
    std::vector<MissingFigure> missing;
    Look look;
    std::vector<Finding> findings;  // without that, only those of what was traced
};

struct Report {
    std::string engine = "stack";
    std::optional<LineCheck> line_check;  // of the line engine
    uint64_t duration_ns = 0;
    uint64_t lost_events = 0;
    std::map<std::string, uint64_t> failures;
    std::string kernel;
    std::string rss_source;
    uint64_t tracer_cpu_ns = 0;
    int64_t tracer_peak_rss_bytes = 0;
    std::optional<int64_t> tracer_map_bytes;  // of the BPF maps, which are the kernel's memory; null: it does not tell
    std::vector<ProgramCost> programs;
    std::vector<ReportProcess> processes;
};

}  // namespace memtrace
