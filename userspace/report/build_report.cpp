// SPDX-License-Identifier: Apache-2.0
#include "report/build_report.h"

#include <fmt/core.h>
#include <fnmatch.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <functional>
#include <set>
#include <tuple>

#include "base/memory_budget.h"
#include "collect/kernel.h"
#include "ledger/heaviest_chain.h"
#include "symbolize/library_files.h"

namespace memtrace {

namespace {

// A function of more lines than this shows only those that something was charged to.
constexpr size_t kMaxWholeFunction = 80;

bool matches(const ReportFilter &filter, const LineKey &function) {
    auto name_fits = [&](const std::string &name) {
        return function.function == name || function.function.ends_with("." + name);
    };
    auto file_fits = [&](const std::string &pattern) {
        std::string base = function.file.substr(function.file.rfind('/') + 1);
        return fnmatch(pattern.c_str(), function.file.c_str(), 0) == 0 ||
               fnmatch(pattern.c_str(), base.c_str(), 0) == 0;
    };
    return (filter.functions.empty() || std::any_of(filter.functions.begin(), filter.functions.end(), name_fits)) &&
           (filter.files.empty() || std::any_of(filter.files.begin(), filter.files.end(), file_fits));
}

// "<string>" is a program's own when it was given with -c; else it is what a library made up and compiled.
bool is_of_a_library(const std::string &file, bool command_given, LibraryFiles &libraries) {
    return file != "<stdin>" && !(command_given && file == "<string>") && libraries.has(file);
}

std::vector<ReportFunction> build_functions(const AccountData &data, const CodeTable &codes, SourceFiles *sources,
                                            const ReportFilter &filter,
                                            const std::function<bool(const std::string &)> &is_library, bool counted,
                                            int64_t page_bytes) {
    std::map<LineKey, const CodeObject *> objects;
    auto sums = sum_lines(data, codes, page_bytes, &objects);
    auto occurrences = sum_occurrences(data, codes, &objects);
    // The lines of one function are neighbours in both.
    auto numbers_in = [](const auto &lines, const LineKey &function, std::set<int> &numbers) {
        for (auto it = lines.lower_bound(function);
             it != lines.end() && it->first.file == function.file && it->first.function == function.function &&
             it->first.first_line == function.first_line;
             ++it)
            numbers.insert(it->first.line);
    };
    std::vector<ReportFunction> functions;
    for (const auto &[key, code] : objects) {
        if (!matches(filter, key))
            continue;
        ReportFunction function{key.file, key.function, key.first_line, is_library(key.file), 0, 0, {}};
        std::set<int> numbers;
        numbers_in(sums, key, numbers);
        numbers_in(occurrences, key, numbers);
        std::set<int> all = code ? code->lines.all() : std::set<int>{};
        if (all.size() <= kMaxWholeFunction && key.function != "<module>")
            numbers.insert(all.begin(), all.end());
        for (int number : numbers) {
            ReportLine line{key.file,     key.function,
                            number,       sources ? sources->line(key.file, number) : std::nullopt,
                            std::nullopt, std::nullopt};
            LineKey at{key.file, key.function, key.first_line, number};
            if (counted)
                line.occurrences = occurrences.contains(at) ? occurrences[at] : 0;
            auto sum = sums.find(at);
            if (sum != sums.end()) {
                line.sum = sum->second;
                function.grown += sum->second.grown;
                function.returned += sum->second.returned;
            }
            function.lines.push_back(std::move(line));
        }
        functions.push_back(std::move(function));
    }
    std::stable_sort(functions.begin(), functions.end(),
                     [](const auto &a, const auto &b) { return a.grown + a.returned > b.grown + b.returned; });
    return functions;
}

std::vector<ReportChainLink> build_chain(const AccountData &data, const CodeTable &codes, SourceFiles *sources,
                                         int64_t page_bytes) {
    std::vector<ReportChainLink> chain;
    for (const ChainLink &link : heaviest_chain(data, codes, page_bytes)) {
        const CodeObject &code = *link.at.code;
        int line = link.at.line.value_or(0);
        chain.push_back({code.file, code.function, code.first_line, line,
                         sources ? sources->line(code.file, line) : std::nullopt, link.grown});
    }
    return chain;
}

std::vector<ReportCalls> build_calls(const AccountData &data, const CodeTable &codes, const ReportFilter &filter,
                                     const std::vector<ReportFunction> &functions) {
    std::map<Place, int64_t> grown;  // by where the function begins
    for (const ReportFunction &function : functions)
        grown[{function.file, function.function, function.first_line, ""}] += function.grown;
    std::vector<ReportCalls> calls;
    for (const auto &[place, count] : sum_entries(data, codes)) {
        if (!matches(filter, {place.file, place.function, 0, 0}))
            continue;
        auto found = grown.find(place);
        calls.push_back({place, count, found == grown.end() ? std::nullopt : std::optional(found->second)});
    }
    std::stable_sort(calls.begin(), calls.end(), [](const auto &a, const auto &b) { return a.count > b.count; });
    return calls;
}

std::optional<ReportArenas> build_arenas(const AccountData &data, const CodeTable &codes) {
    const mt_account &account = data.account;
    if (account.python.state != MT_PYTHON_READY)
        return std::nullopt;
    ReportArenas arenas;
    arenas.size_bytes = account.python.arena_bytes;
    arenas.places = sum_arenas(data, codes);
    for (const auto &[place, sum] : arenas.places) {
        arenas.created += sum.created;
        arenas.released += sum.released;
    }
    if (account.opened_by == MT_OPENED_BY_EXEC) {
        arenas.start = 0;
        arenas.end = arenas.created - std::min(arenas.created, arenas.released);
    }
    return arenas;
}

std::vector<std::pair<Place, int64_t>> largest_first(const std::map<Place, int64_t> &places) {
    std::vector<std::pair<Place, int64_t>> rows(places.begin(), places.end());
    std::stable_sort(rows.begin(), rows.end(), [](const auto &a, const auto &b) { return a.second > b.second; });
    return rows;
}

ReportCopies build_copies(const AccountData &data, const Session &session, int64_t page_bytes) {
    ReportCopies copies;
    auto sums = sum_copies(data, session.codes(), session.natives(), page_bytes);
    copies.rows.assign(sums.begin(), sums.end());
    std::stable_sort(copies.rows.begin(), copies.rows.end(),
                     [](const auto &a, const auto &b) { return a.second.bytes > b.second.bytes; });
    for (const auto &[place, sum] : copies.rows) {
        copies.all.bytes += sum.bytes;
        copies.all.header_bytes += sum.header_bytes;
        copies.all.collection_bytes += sum.collection_bytes;
    }
    copies.pages = copies.all.bytes / page_bytes;
    return copies;
}

ReportResident build_resident(const AccountData &data, const Session &session, int64_t rss) {
    ReportResident resident;
    resident.rows = largest_first(sum_resident(data, session.codes(), session.natives()));
    resident.unexplained = rss;
    for (const auto &[place, bytes] : resident.rows)
        resident.unexplained -= bytes;
    resident.checked = data.resident->checked;
    resident.ranges = data.resident->ranges;
    resident.dropped = data.resident->dropped;
    return resident;
}

Traced sum_up(const ReportProcess &process) {
    Traced traced;
    if (process.copies) {
        for (const auto &[place, sum] : process.copies->rows)
            traced.copies.emplace_back(in_words(place), sum.bytes);
        traced.copied_header_bytes = process.copies->all.header_bytes;
        if (process.collections)
            traced.copied_in_collections_bytes = process.copies->all.collection_bytes;
        for (const MissingFigure &missing : process.missing)
            if (missing.what == Probed::kCollections)
                traced.no_collections = missing.reason;
        traced.begun_by_fork = process.opened_by == "fork";
    }
    for (const ReportReturn &row : process.returns)
        traced.returns.push_back({row.how, in_words(row.place), row.sum.bytes});
    return traced;
}

// Of one that has ended, what tracing saw is all that is known.
void explain_process(ReportProcess &process, Look look) {
    process.look = std::move(look);
    Explanation unseen;
    Explanation &explanation = process.look.taken ? process.look.taken->explanation : unseen;
    explanation.traced = sum_up(process);
    process.findings = find_causes(explanation);
}

std::vector<MissingFigure> build_missing(const ProcessDetails &details, const mt_account &account,
                                         const TracerSettings &settings) {
    std::vector<MissingFigure> missing;
    if (!details.python)
        return missing;
    for (Probed what : wanted_probes(settings)) {
        auto attached = details.probes.find(what);
        if (attached == details.probes.end())
            missing.push_back(
                {what, fmt::format("{} ended before memtrace could attach to its probes",
                                   account.closed_by == MT_CLOSED_BY_DETACH ? "tracing" : "the process")});
        else if (!attached->second.empty())
            missing.push_back({what, attached->second});
    }
    return missing;
}

ReportProcess build_process(Session &session, const AccountData &data, const ReportFilter &filter, LastLook &look,
                            int64_t page_bytes) {
    const mt_account &account = data.account;
    ProcessDetails &details = session.details(account.id);
    ReportProcess process;
    process.pid = static_cast<int>(account.tgid);
    process.cmdline = details.identity.cmdline;
    process.cgroup = details.identity.cgroup;
    process.opened_by = account.opened_by == MT_OPENED_BY_ATTACH ? "attach"
                        : account.opened_by == MT_OPENED_BY_FORK ? "fork"
                                                                 : "exec";
    process.closed_by = account.closed_by == MT_CLOSED_BY_EXIT   ? "exit"
                        : account.closed_by == MT_CLOSED_BY_EXEC ? "exec"
                                                                 : "detach";
    process.opened_ns = account.opened_ns;
    process.duration_ns = account.closed_ns > account.opened_ns ? account.closed_ns - account.opened_ns : 0;
    if (details.python) {
        process.python =
            ReportPython{details.python->version_string(), std::nullopt, details.jit, std::nullopt, std::nullopt};
        if (details.python->runtime.state != MT_PYTHON_READY)
            process.python->refusal = details.python->refusal;
        else
            process.python->free_threaded = details.python->free_threaded;
        if (details.python->probes) {
            process.python->usdt.emplace();
            for (const UsdtProbe &probe : *details.python->probes)
                if (probe.refusal.empty())
                    process.python->usdt->push_back(probe.name);
        }
    }
    process.balances = balance(data, page_bytes);
    process.peak_bytes = account.peak_rss * page_bytes;
    bool command_given = std::count(process.cmdline.begin(), process.cmdline.end(), "-c") > 0;
    LibraryFiles libraries(details.sources.get(), details.python ? details.python->version : PythonVersion{});
    auto is_library = [&](const std::string &file) { return is_of_a_library(file, command_given, libraries); };
    process.functions =
        build_functions(data, session.codes(), details.sources.get(), filter, is_library,
                        details.listens_to(Probed::kLines) && !session.tracer().lost_line_hits(), page_bytes);
    process.heaviest_chain = build_chain(data, session.codes(), details.sources.get(), page_bytes);
    process.owners = sum_owners(data, session.codes(), page_bytes);
    for (const auto &[key, sum] : sum_native(data, session.natives(), page_bytes))
        process.native.push_back({key.first, key.second, sum});
    std::stable_sort(process.native.begin(), process.native.end(), [](const auto &a, const auto &b) {
        return a.sum.grown + a.sum.returned > b.sum.grown + b.sum.returned;
    });
    for (const auto &[key, sum] : sum_returns(data, session.codes(), session.natives(), page_bytes))
        process.returns.push_back({key.first, key.second, sum});
    std::stable_sort(process.returns.begin(), process.returns.end(),
                     [](const auto &a, const auto &b) { return a.sum.bytes > b.sum.bytes; });
    if (counts_copies(session.tracer().settings().owners))
        process.copies = build_copies(data, session, page_bytes);
    if (data.resident)
        process.resident = build_resident(data, session, process.balances.total().end);
    process.calls = sum_calls(data, page_bytes);
    process.arenas = build_arenas(data, session.codes());
    if (details.listens_to(Probed::kFunctionEntries))
        process.function_calls = build_calls(data, session.codes(), filter, process.functions);
    if (details.listens_to(Probed::kImports))
        process.imports = build_imports(data.imports);
    if (details.listens_to(Probed::kCollections))
        process.collections = sum_collections(data, session.codes(), page_bytes);
    process.missing = build_missing(details, account, session.tracer().settings());
    explain_process(process, look.take(session, account, process.balances.total().end));
    return process;
}

// Those that weigh most first.
std::vector<const AccountData *> by_weight(const Session &session) {
    std::vector<const AccountData *> accounts;
    for (const AccountData &data : session.accounts())
        accounts.push_back(&data);
    std::stable_sort(accounts.begin(), accounts.end(), [&](const auto *a, const auto *b) {
        return session.weight(a->account) > session.weight(b->account);
    });
    return accounts;
}

}  // namespace

Report build_report(Session &session, const ReportFilter &filter, LastLook &look) {
    Report report;
    report.duration_ns = static_cast<uint64_t>(session.duration().count());
    report.lost_events = session.tracer().lost_events();
    report.kernel = kernel_release();
    report.rss_source = name_of(session.tracer().settings().source);
    report.programs = session.tracer().program_costs();

    std::map<uint32_t, int> pid_of;
    for (const AccountData &data : session.accounts())
        pid_of[data.account.id] = static_cast<int>(data.account.tgid);
    uint64_t left_out = 0;
    report.processes.reserve(session.accounts().size());
    for (const AccountData *data : by_weight(session)) {
        if (report.processes.size() >= Session::kLeastKept && !MemoryBudget::instance().has_room(Detail::kReport)) {
            left_out++;
            continue;
        }
        report.processes.push_back(build_process(session, *data, filter, look, getpagesize()));
        if (data->account.opened_by == MT_OPENED_BY_FORK && pid_of.contains(data->account.parent))
            report.processes.back().parent_pid = pid_of[data->account.parent];
    }
    // (In place: stable_sort would copy them.)
    std::sort(report.processes.begin(), report.processes.end(), [](const auto &a, const auto &b) {
        return std::tuple(a.opened_ns, a.pid) < std::tuple(b.opened_ns, b.pid);
    });

    report.failures = session.failures();  // those of reading sources too
    if (left_out)
        report.failures["processes_left_out"] += left_out;

    if (session.tracer().settings().engine == Engine::kLine) {
        report.engine = "line";
        report.line_check = session.codes().line_check();
    }

    // What tracing cost so far, rendering excepted.
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    auto ns = [](const timeval &t) {
        return static_cast<uint64_t>(t.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(t.tv_usec) * 1000;
    };
    report.tracer_cpu_ns = ns(usage.ru_utime) + ns(usage.ru_stime);
    report.tracer_peak_rss_bytes = static_cast<int64_t>(usage.ru_maxrss) * 1024;
    report.tracer_map_bytes = session.tracer().map_bytes();
    return report;
}

}  // namespace memtrace
