// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <set>
#include <span>
#include <vector>

#include "base/counted.h"
#include "base/printable.h"
#include "render/explanation.h"
#include "render/failures.h"
#include "render/render.h"

namespace memtrace {

namespace {

constexpr size_t kMaxFunctions = 10;
constexpr size_t kMaxChain = 12;          // calls
constexpr size_t kMaxChainFunctions = 4;  // of libraries, whose lines are shown where the program's own are light
constexpr size_t kMaxReturns = 12;
constexpr size_t kMaxResident = 15;
constexpr size_t kMaxImports = 100;
constexpr size_t kMaxCalls = 15;             // of functions
constexpr size_t kMaxNative = 10;            // functions
constexpr size_t kMaxPlaces = 5;             // that trigger garbage collections
constexpr int64_t kWorthShowing = 64 << 10;  // rows of less are summed up

double seconds(uint64_t ns) {
    return static_cast<double>(ns) / 1e9;
}

std::string render_bytes(int64_t bytes) {
    return fmt::format("{} byte{}", bytes, std::abs(bytes) == 1 ? "" : "s");
}

std::string describe_native(const Place &place) {
    std::string module = place.file.substr(place.file.rfind('/') + 1);
    return printable(place.function.empty() ? module : fmt::format("{}  {}", module, place.function));
}

std::string describe_place(const Place &place) {
    if (!place.owner.empty())
        return place.file.empty() ? place.owner : fmt::format("{}  {}", place.owner, describe_native(place));
    return fmt::format("{}:{}  {}", place.file, place.line > 0 ? std::to_string(place.line) : "?", place.function);
}

void render_header(std::string &out, const Report &report, const ReportProcess &process) {
    std::string python = "no CPython found in it";
    if (process.python)
        python = "CPython " + process.python->version +
                 (process.python->free_threaded.value_or(false) ? " free-threaded" : "");
    out += fmt::format("process {}: {} | {} | {} engine | {:.2f} s | lost events: {}\n", process.pid,
                       join_command(process.cmdline), python, report.engine, seconds(process.duration_ns),
                       report.lost_events);
    if (process.parent_pid)
        out += fmt::format("forked from process {}\n", process.parent_pid);
    if (process.python && process.python->refusal)
        out += fmt::format("Lines are not known: {}.\n", *process.python->refusal);
    if (process.python && process.python->jit)
        out += "Lines are approximate: this interpreter's JIT is on, and its code may be charged to a line nearby.\n";
    Balance total = process.balances.total();
    out += fmt::format("RSS from {} to {}, peak {}: {} grown, {} returned, {} unexplained\n", render_mib(total.start),
                       render_mib(total.end), render_mib(process.peak_bytes), render_mib(total.grown),
                       render_mib(total.returned), render_bytes(total.unexplained()));
    if (process.look.held_ns)
        out += fmt::format(
            "It was held for {:.2f} s when it had run to its end, to be looked at; --no-look leaves that out.\n",
            seconds(*process.look.held_ns));
}

// Of all processes together: said once.
void render_failures(std::string &out, const Report &report) {
    for (const auto &[name, count] : report.failures)
        out += fmt::format("  {}\n", describe_failure(name, count));
}

void render_function(std::string &out, const ReportFunction &function, bool counted) {
    out += fmt::format("\nFile {}, function {}\n\n", function.file, function.function);
    out += fmt::format("Line #      Mem usage     Increment         Grown      Returned{}   Line Contents\n",
                       counted ? "  Occurrences" : "");
    out += std::string(counted ? 91 : 78, '=') + "\n";
    int previous = 0;
    for (const ReportLine &line : function.lines) {
        // The module's body is too long to print whole: say where lines are left out.
        if (previous && line.line > previous + 1 && function.function == "<module>")
            out += "   ...\n";
        previous = line.line;
        std::string number = line.line ? std::to_string(line.line) : "?";
        if (line.sum)
            out +=
                fmt::format("{:>6} {:>14}{:>14}{:>14}{:>14}", number, render_mib(line.sum->rss_after),
                            render_mib(line.increment()), render_mib(line.sum->grown), render_mib(-line.sum->returned));
        else
            out += fmt::format("{:>6} {:56}", number, "");
        if (counted)
            out += fmt::format("{:>13}", line.occurrences.value_or(0) ? std::to_string(*line.occurrences) : "");
        out += fmt::format("   {}\n", line.source.value_or(""));
    }
}

int64_t grown_by_lines(const ReportProcess &process) {
    auto python = process.owners.find("python");
    return python == process.owners.end() ? 0 : python->second.grown;
}

// `grown`: by all lines.
void render_chain(std::string &out, const std::vector<ReportChainLink> &chain, int64_t grown) {
    if (chain.empty() || chain[0].grown < kWorthShowing)
        return;
    out += 2 * chain.back().grown > grown ? "\nMost of what lines grew came by this chain of calls\n"
                                          : "\nThe heaviest chain of calls, by what lines grew\n";
    out += "         Grown   Where\n";
    size_t left_out = chain.size() - std::min(chain.size(), kMaxChain);
    if (left_out)
        out += fmt::format("{:>14}   {} before these\n", "...", counted(left_out, "call"));
    for (const ReportChainLink &link : std::span(chain).subspan(left_out)) {
        std::string source = link.source.value_or("");
        source.erase(0, source.find_first_not_of(" \t"));
        out +=
            fmt::format("{:>14}   {}{}{}\n", render_mib(link.grown),
                        describe_place({link.file, link.function, link.line, ""}), source.empty() ? "" : "   ", source);
    }
}

// The functions of libraries that are shown all the same: those of the heaviest chain, the innermost ones, unless half
// of what all lines grew came by a function of the program's own, whose lines then say so.
std::set<const ReportFunction *> libraries_worth_showing(const ReportProcess &process) {
    std::set<const ReportFunction *> functions;
    int64_t half = grown_by_lines(process) / 2;
    if (half < kWorthShowing ||
        std::any_of(process.functions.begin(), process.functions.end(),
                    [&](const auto &function) { return !function.of_a_library && function.grown >= half; }))
        return functions;
    for (auto link = process.heaviest_chain.rbegin();
         link != process.heaviest_chain.rend() && functions.size() < kMaxChainFunctions; ++link) {
        auto found = std::find_if(process.functions.begin(), process.functions.end(), [&](const auto &function) {
            return function.file == link->file && function.function == link->function &&
                   function.first_line == link->first_line;
        });
        if (found != process.functions.end())
            functions.insert(&*found);
    }
    return functions;
}

void render_functions(std::string &out, const ReportProcess &process, bool all_functions, bool counted_lines) {
    auto libraries = libraries_worth_showing(process);
    std::vector<const ReportFunction *> wanted;
    for (const ReportFunction &function : process.functions)
        if (all_functions || libraries.contains(&function) ||
            (!function.of_a_library && function.grown + function.returned >= kWorthShowing))
            wanted.push_back(&function);
    size_t others = process.functions.size() - wanted.size(),
           cut = wanted.size() - std::min(wanted.size(), kMaxFunctions);
    wanted.resize(wanted.size() - cut);
    if (!wanted.empty())
        out +=
            "\nGrown is what a line, or what it calls, touched first; Returned is what it gave back, whoever had "
            "touched it.\n";
    for (const ReportFunction *function : wanted)
        render_function(out, *function, counted_lines);
    if (cut && others)
        out += fmt::format("\n{}, and {} of libraries or with less than 64 KiB; --file '*' shows the largest of all.\n",
                           counted(cut, "more function", "more functions"), with_thousands(others));
    else if (cut)
        out += fmt::format("\n{}, which --format json has too.\n", counted(cut, "more function", "more functions"));
    else if (others)
        out += fmt::format("\n{} of libraries or with less than 64 KiB; --file '*' shows the largest of all.\n",
                           counted(others, "more function", "more functions"));
}

void render_owners(std::string &out, const ReportProcess &process) {
    out += "\nWho changed the resident set\n";
    out += "         Grown      Returned   Owner\n";
    for (const auto &[name, sum] : process.owners)
        out += fmt::format("{:>14}{:>14}   {}\n", render_mib(sum.grown), render_mib(-sum.returned),
                           name == "python" ? "Python lines" : name);
}

void render_native(std::string &out, const ReportProcess &process) {
    auto first_small = std::find_if(process.native.begin(), process.native.end(), [](const ReportNative &row) {
        return row.sum.grown + row.sum.returned < kWorthShowing;
    });
    auto large = static_cast<size_t>(first_small - process.native.begin()), shown = std::min(large, kMaxNative);
    if (!shown)
        return;
    out += "\n[no python frame], by native function\n";
    out += "         Grown      Returned   Module, function\n";
    for (const ReportNative &row : std::span(process.native).first(shown))
        out += fmt::format("{:>14}{:>14}   {}{}\n", render_mib(row.sum.grown), render_mib(-row.sum.returned),
                           describe_native(row.place), row.by.empty() ? "" : ", by " + printable(row.by));
    if (large > shown)
        out += fmt::format("{} more, which --format json has too\n", with_thousands(large - shown));
}

void render_returns(std::string &out, const ReportProcess &process) {
    out += "\nReturned to the operating system, by call and line\n";
    if (process.returns.empty()) {
        out += "  nothing\n";
        return;
    }
    out += "         Bytes         MiB   Calls  How      Where\n";
    size_t shown = 0;
    int64_t rest = 0;
    for (const ReportReturn &row : process.returns) {
        if (shown == kMaxReturns || (shown && row.sum.bytes < kWorthShowing)) {
            rest += row.sum.bytes;
            continue;
        }
        // A page fault that replaces a page, or the kernel's reclaim, is no call.
        bool call = row.how != "other" && row.how != "reclaim";
        out += fmt::format("{:>14}{:>12}{:>8}  {:<8} {}\n", row.sum.bytes,
                           fmt::format("{:.2f}", static_cast<double>(row.sum.bytes) / (1 << 20)),
                           call ? std::to_string(row.sum.count) : "-", row.how, describe_place(row.place));
        shown++;
    }
    if (rest)
        out += fmt::format("{:>14}{:>12}{:>8}  {:<8} {}\n", rest,
                           fmt::format("{:.2f}", static_cast<double>(rest) / (1 << 20)), "", "", "all others");
}

// Places with their bytes, largest first; `most` of them.
void render_places(std::string &out, const std::vector<std::pair<Place, int64_t>> &places, size_t most) {
    auto row = [&out](int64_t bytes, const std::string &place) {
        out += fmt::format("{:>14}{:>14}   {}\n", bytes, render_mib(bytes), place);
    };
    out += "         Bytes           MiB   Where\n";
    size_t shown = 0;
    int64_t rest = 0;
    for (const auto &[place, bytes] : places) {
        if (shown == most || (shown && bytes < kWorthShowing)) {
            rest += bytes;
            continue;
        }
        row(bytes, describe_place(place));
        shown++;
    }
    if (rest)
        row(rest, "all others");
}

void render_copies(std::string &out, const ReportCopies &copies) {
    if (copies.rows.empty())
        return;
    out += fmt::format("\nCopied on write after fork: {}, {}, shared until then\n",
                       counted(static_cast<uint64_t>(copies.pages), "page"), render_mib(copies.all.bytes));
    std::vector<std::pair<Place, int64_t>> rows;
    for (const auto &[place, sum] : copies.rows)
        rows.emplace_back(place, sum.bytes);
    render_places(out, rows, kMaxReturns);
    out +=
        fmt::format("{} of it by writes to the headers of Python objects: reference counts, the garbage collector.\n",
                    render_mib(copies.all.header_bytes));
}

void render_resident(std::string &out, const ReportResident &resident) {
    out += resident.checked ? "\nResident now, by the line that first touched it\n"
                            : "\nResident at its end, by the line that first touched it\n";
    render_places(out, resident.rows, kMaxResident);
    out += fmt::format("{:>14}{:>14}   unexplained\n", resident.unexplained, render_mib(resident.unexplained));
    out += fmt::format("Kept as {}; {} had no room, and what was there is in [address unknown].\n",
                       counted(resident.ranges, "range of pages", "ranges of pages"), with_thousands(resident.dropped));
}

void render_collections(std::string &out, const ReportProcess &process) {
    if (!process.collections)
        return;
    out += "\nGarbage collections    Count      Objects       Paused      Longest    RSS change\n";
    auto row = [&out](const std::string &name, const CollectionSum &sum) {
        auto ms = [](uint64_t ns) { return fmt::format("{:.3f} ms", static_cast<double>(ns) / 1e6); };
        out += fmt::format("  {:<17}{:>9}{:>13}{:>13}{:>13}{:>14}\n", name, sum.count, sum.objects, ms(sum.pause_ns),
                           ms(sum.longest_pause_ns), render_mib(sum.rss_change));
    };
    for (const auto &[generation, sum] : process.collections->by_generation)
        row(fmt::format("generation {}", generation), sum);
    if (process.collections->by_generation.empty())
        out += "  none\n";
    std::vector<std::pair<Place, CollectionSum>> places(process.collections->by_place.begin(),
                                                        process.collections->by_place.end());
    std::stable_sort(places.begin(), places.end(),
                     [](const auto &a, const auto &b) { return a.second.pause_ns > b.second.pause_ns; });
    if (places.size() > kMaxPlaces)
        places.resize(kMaxPlaces);
    for (const auto &[place, sum] : places)
        out += fmt::format("  {}, {:.3f} ms together, at {}\n", counted(sum.count, "collection"),
                           static_cast<double>(sum.pause_ns) / 1e6, describe_place(place));
}

void render_missing(std::string &out, const std::vector<MissingFigure> &missing) {
    const std::map<Probed, const char *> names = {
        {Probed::kLines, "Lines were not counted"},
        {Probed::kFunctionEntries, "Calls of functions were not counted"},
        {Probed::kCollections, "Garbage collections were not counted"},
        {Probed::kImports, "Imports were not seen"},
    };
    for (const auto &[what, reason] : missing)
        out += fmt::format("{}: {}.\n", names.at(what), printable(reason));
}

void render_function_calls(std::string &out, const std::vector<ReportCalls> &calls) {
    out += "\nFunctions called most\n";
    out += "         Calls         Grown  Grown a call   Entered at\n";
    for (const ReportCalls &row : std::span(calls).first(std::min(calls.size(), kMaxCalls))) {
        std::string each;
        if (row.grown && row.count)
            each = fmt::format("{:.1f} KiB", static_cast<double>(*row.grown) / 1024 / static_cast<double>(row.count));
        out += fmt::format("{:>14}{:>14}{:>14}   {}\n", row.count, row.grown ? render_mib(*row.grown) : "", each,
                           describe_place(row.place));
    }
    if (calls.empty())
        out += "  none\n";
    else if (calls.size() > kMaxCalls)
        out += fmt::format("  and {}, which --format json has too\n", counted(calls.size() - kMaxCalls, "other"));
}

// A tree of modules; `left` rows may still be printed.
void render_imports_below(std::string &out, const std::vector<Import> &imports, int depth, size_t &left) {
    for (const Import &import : imports) {
        if (left == 0 || import.total_bytes < kWorthShowing)
            continue;
        left--;
        out += fmt::format("{:>14}{:>14}{:>10.1f} ms   {:{}}{}{}\n", render_mib(import.total_bytes),
                           render_mib(import.own_bytes), static_cast<double>(import.total_ns) / 1e6, "", 2 * depth,
                           import.module, import.found ? "" : " (not found)");
        render_imports_below(out, import.below, depth + 1, left);
    }
}

void render_imports(std::string &out, const std::vector<Import> &imports) {
    int64_t total = 0;
    for (const Import &import : imports)
        total += import.total_bytes;
    out += fmt::format("\nImports: {} together, of which those of at least 64 KiB are\n", render_mib(total));
    out += "         Total           Own         Time   Module\n";
    size_t left = kMaxImports;
    render_imports_below(out, imports, 0, left);
}

void render_calls(std::string &out, const ReportProcess &process) {
    const std::pair<mt_call_kind, const char *> names[] = {
        {MT_KIND_MMAP, "mmap"},         {MT_KIND_MUNMAP, "munmap"},
        {MT_KIND_BRK_GROW, "brk grow"}, {MT_KIND_BRK_SHRINK, "brk shrink"},
        {MT_KIND_MREMAP, "mremap"},     {MT_KIND_MADVISE, "madvise"}};
    out += "\nSystem calls that succeeded     Count        Length    RSS change\n";
    for (auto [kind, name] : names) {
        auto found = process.calls.find(kind);
        if (found == process.calls.end())
            continue;
        out += fmt::format("  {:<27}{:>8}{:>14}{:>14}\n", name, found->second.count,
                           render_mib(found->second.length_bytes), render_mib(found->second.rss_bytes));
    }
    if (process.arenas)
        out += fmt::format("pymalloc arenas of {} KiB: {} created, {} released\n", process.arenas->size_bytes >> 10,
                           process.arenas->created, process.arenas->released);
}

bool is_python(const ReportProcess &process) {
    return process.python && (process.owners.contains("python") || process.python->refusal);
}

// Who named a process wants to hear of it, even if it did nothing meanwhile. A forked child that was looked into has
// its findings, whoever made what it has.
bool is_worth_a_section(const ReportProcess &process) {
    return is_python(process) || process.opened_by == "attach" || process.look.taken;
}

// "sh, env": what these were, each name once.
std::string names_of(const std::vector<const ReportProcess *> &processes) {
    std::string names;
    std::set<std::string> once;
    for (const ReportProcess *process : processes) {
        std::string name = process->cmdline.empty() ? "?" : process->cmdline[0];
        name = name.substr(name.rfind('/') + 1);
        if (once.size() < 8 && once.insert(name).second)
            names += (names.empty() ? "" : ", ") + join_command({name});
    }
    return names;
}

// Processes that have no section. Of a Python nothing may have been charged to a line, and still it is one: a forked
// child, or one that was found late. A child that execs at once is none, though its parent is.
void render_others(std::string &out, const std::vector<const ReportProcess *> &others) {
    auto is_idle_python = [](const ReportProcess *process) {
        return process->python && !(process->opened_by == "fork" && process->closed_by == "exec");
    };
    auto render = [&](const std::vector<const ReportProcess *> &processes, const std::string &what) {
        if (processes.empty())
            return;
        int64_t peak = 0, unexplained = 0;
        for (const ReportProcess *process : processes) {
            peak = std::max(peak, process->peak_bytes);
            unexplained += std::abs(process->balances.total().unexplained());
        }
        out += fmt::format("\n{} {} ({}): peak of the largest {}, {} unexplained\n",
                           counted(processes.size(), "process", "processes"), what, names_of(processes),
                           render_mib(peak), render_bytes(unexplained));
    };
    std::vector<const ReportProcess *> idle, rest;
    for (const ReportProcess *process : others)
        (is_idle_python(process) ? idle : rest).push_back(process);
    render(idle, "ran Python, of which no line changed the resident set while it was followed");
    render(rest, "ran no Python that was seen");
}

void render_process(std::string &out, const Report &report, const ReportProcess &process, bool all_functions,
                    bool is_first) {
    render_header(out, report, process);
    if (is_first)
        render_failures(out, report);
    render_chain(out, process.heaviest_chain, grown_by_lines(process));
    render_functions(out, process, all_functions, report.line_check.has_value());
    render_owners(out, process);
    render_native(out, process);
    render_returns(out, process);
    if (process.copies)
        render_copies(out, *process.copies);
    if (process.resident)
        render_resident(out, *process.resident);
    render_calls(out, process);
    render_missing(out, process.missing);
    render_collections(out, process);
    if (process.function_calls)
        render_function_calls(out, *process.function_calls);
    if (process.imports)
        render_imports(out, *process.imports);
    // What was returned has a table already.
    std::vector<Finding> findings = process.findings;
    std::erase_if(findings, [](const Finding &finding) { return finding.cause == "returned"; });
    if (!findings.empty())
        render_findings(out, findings, process.look.taken && process.look.taken->at_programs_end);
    if (process.python && !process.look.missing.empty())
        out += fmt::format("\nWhy memory is resident was not looked at: {}.\n", printable(process.look.missing));
    if (process.look.taken)
        render_incomplete(out, process.look.taken->explanation.incomplete);
}

}  // namespace

std::string render_mib(int64_t bytes) {
    double mib = static_cast<double>(bytes) / (1 << 20);
    if (std::abs(mib) < 0.005)
        mib = 0;  // and not "-0.00"
    return fmt::format("{:.2f} MiB", mib);
}

std::string join_command(const std::vector<std::string> &words) {
    std::string text;
    for (const std::string &word : words)
        text += (text.empty() ? "" : " ") + printable(word);
    if (text.size() > 100)
        text = text.substr(0, start_of_character(text, 97)) + "...";
    return text.empty() ? "?" : text;
}

std::string render_table(const Report &report, bool all_functions) {
    std::string out;
    std::vector<const ReportProcess *> others;
    for (const ReportProcess &process : report.processes) {
        if (!is_worth_a_section(process) && report.processes.size() > 1) {
            others.push_back(&process);
            continue;
        }
        bool is_first = out.empty();
        if (!is_first)
            out += "\n" + std::string(78, '-') + "\n\n";
        render_process(out, report, process, all_functions, is_first);
    }
    if (out.empty()) {
        out = fmt::format("{} | {} engine | {:.2f} s | lost events: {}\n",
                          counted(report.processes.size(), "process", "processes"), report.engine,
                          seconds(report.duration_ns), report.lost_events);
        render_failures(out, report);
    }
    render_others(out, others);
    out +=
        fmt::format("\nmemtrace {} used {:.2f} s of CPU time, {} at its peak, and {} of the kernel's for BPF maps.\n",
                    MEMTRACE_VERSION, seconds(report.tracer_cpu_ns), render_mib(report.tracer_peak_rss_bytes),
                    report.tracer_map_bytes ? render_mib(*report.tracer_map_bytes) : "an unknown amount");
    return out;
}

}  // namespace memtrace
