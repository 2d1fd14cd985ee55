// SPDX-License-Identifier: Apache-2.0
#include <nlohmann/json.hpp>

#include "render/explanation.h"
#include "render/or_null.h"
#include "render/render.h"

namespace memtrace {

namespace {

using json = nlohmann::ordered_json;

json line_or_null(int line) {
    return line > 0 ? json(line) : json(nullptr);
}

json render_balance(const Balance &balance) {
    return {{"start_bytes", balance.start},
            {"end_bytes", balance.end},
            {"grown_bytes", balance.grown},
            {"returned_bytes", balance.returned},
            {"unexplained_bytes", balance.unexplained()}};
}

json render_lines(const ReportProcess &process) {
    json lines = json::array();
    for (const ReportFunction &function : process.functions) {
        for (const ReportLine &line : function.lines) {
            if (!line.sum && !line.occurrences.value_or(0))
                continue;
            LineSum sum = line.sum.value_or(LineSum{});
            lines.push_back({{"file", line.file},
                             {"function", line.function},
                             {"line", line_or_null(line.line)},
                             {"source", or_null(line.source)},
                             {"mem_usage_bytes", line.sum ? json(sum.rss_after) : json()},
                             {"increment_bytes", line.increment()},
                             {"grown_bytes", sum.grown},
                             {"returned_bytes", sum.returned},
                             {"peak_bytes", line.sum ? json(sum.peak) : json()},
                             {"occurrences", or_null(line.occurrences)}});
        }
    }
    return lines;
}

json render_chain(const std::vector<ReportChainLink> &chain) {
    json rows = json::array();
    for (const ReportChainLink &link : chain)
        rows.push_back({{"file", link.file},
                        {"function", link.function},
                        {"line", line_or_null(link.line)},
                        {"source", or_null(link.source)},
                        {"grown_bytes", link.grown}});
    return rows;
}

json render_place(const Place &place) {
    return {{"file", text_or_null(place.file)},
            {"function", text_or_null(place.function)},
            {"line", line_or_null(place.line)},
            {"owner", text_or_null(place.owner)}};
}

json render_returns(const ReportProcess &process) {
    json returns = json::array();
    for (const ReportReturn &row : process.returns) {
        json rendered = {{"how", row.how}, {"bytes", row.sum.bytes}, {"count", row.sum.count}};
        rendered.update(render_place(row.place));
        returns.push_back(std::move(rendered));
    }
    return returns;
}

json render_places(const std::vector<std::pair<Place, int64_t>> &places, const char *key) {
    json lines = json::array();
    for (const auto &[place, bytes] : places) {
        json row = render_place(place);
        row[key] = bytes;
        lines.push_back(std::move(row));
    }
    return lines;
}

// Together they are what was resident by the ledger.
json render_layers(const TakenLook &look) {
    json layers = render_layers(look.explanation.layers);
    layers.push_back({{"owner", "unexplained"}, {"resident_bytes", look.rss_bytes - look.explanation.rss_bytes}});
    return layers;
}

json render_copies(const ReportCopies &copies) {
    json lines = json::array();
    for (const auto &[place, sum] : copies.rows) {
        json row = render_place(place);
        row["bytes"] = sum.bytes;
        row["header_bytes"] = sum.header_bytes;
        lines.push_back(std::move(row));
    }
    return {{"bytes", copies.all.bytes},
            {"header_bytes", copies.all.header_bytes},
            {"pages", copies.pages},
            {"lines", lines}};
}

json render_resident(const ReportResident &resident) {
    return {{"lines", render_places(resident.rows, "resident_bytes")},
            {"unexplained_bytes", resident.unexplained},
            {"checked", resident.checked},
            {"owner_ranges", {{"count", resident.ranges}, {"dropped", resident.dropped}}}};
}

json render_native(const ReportProcess &process) {
    json rows = json::array();
    for (const ReportNative &row : process.native)
        rows.push_back({{"module", row.place.file},
                        {"function", text_or_null(row.place.function)},
                        {"by", text_or_null(row.by)},
                        {"grown_bytes", row.sum.grown},
                        {"returned_bytes", row.sum.returned},
                        {"peak_bytes", row.sum.peak}});
    return rows;
}

json render_calls(const ReportProcess &process) {
    const std::pair<mt_call_kind, const char *> names[] = {
        {MT_KIND_MMAP, "mmap"},         {MT_KIND_MUNMAP, "munmap"},
        {MT_KIND_BRK_GROW, "brk_grow"}, {MT_KIND_BRK_SHRINK, "brk_shrink"},
        {MT_KIND_MREMAP, "mremap"},     {MT_KIND_MADVISE, "madvise"}};
    json calls = json::object();
    for (auto [kind, name] : names) {
        auto found = process.calls.find(kind);
        CallTotal total = found == process.calls.end() ? CallTotal{} : found->second;
        calls[name] = {{"count", total.count}, {"bytes", total.length_bytes}, {"rss_bytes", total.rss_bytes}};
    }
    return calls;
}

json render_sum(const CollectionSum &sum) {
    return {{"count", sum.count},
            {"objects", sum.objects},
            {"pause_ns", sum.pause_ns},
            {"longest_pause_ns", sum.longest_pause_ns},
            {"rss_change_bytes", sum.rss_change}};
}

json render_collections(const ReportProcess &process) {
    if (!process.collections)
        return nullptr;
    json generations = json::array(), lines = json::array();
    for (const auto &[generation, sum] : process.collections->by_generation) {
        json row = render_sum(sum);
        row["generation"] = generation;
        row["pauses"] = json::array();
        for (const auto &[limit, count] : sum.histogram)
            row["pauses"].push_back({{"at_most_ns", limit}, {"count", count}});
        generations.push_back(std::move(row));
    }
    for (const auto &[place, sum] : process.collections->by_place) {
        json row = render_place(place);
        row.update(render_sum(sum));
        lines.push_back(std::move(row));
    }
    return {{"generations", generations}, {"lines", lines}};
}

json render_imports(const std::vector<Import> &imports) {
    json rows = json::array();
    for (const Import &import : imports)
        rows.push_back({{"module", import.module},
                        {"found", import.found},
                        {"total_bytes", import.total_bytes},
                        {"own_bytes", import.own_bytes},
                        {"total_ns", import.total_ns},
                        {"imports", render_imports(import.below)}});
    return rows;
}

json render_function_calls(const std::vector<ReportCalls> &calls) {
    json rows = json::array();
    for (const ReportCalls &row : calls)
        rows.push_back({{"file", row.place.file},
                        {"function", row.place.function},
                        {"line", row.place.line > 0 ? json(row.place.line) : json()},
                        {"count", row.count},
                        {"grown_bytes", or_null(row.grown)}});
    return rows;
}

json render_missing(const std::vector<MissingFigure> &missing) {
    const std::map<Probed, const char *> keys = {{Probed::kLines, "occurrences"},
                                                 {Probed::kFunctionEntries, "function_calls"},
                                                 {Probed::kCollections, "gc"},
                                                 {Probed::kImports, "imports"}};
    json rows = json::array();
    for (const auto &[what, reason] : missing)
        rows.push_back({{"figure", keys.at(what)}, {"reason", reason}});
    return rows;
}

json render_process(const ReportProcess &process) {
    Balance total = process.balances.total();
    const std::optional<TakenLook> &look = process.look.taken;
    json python = nullptr;
    if (process.python)
        python = {{"version", process.python->version},
                  {"free_threaded", or_null(process.python->free_threaded)},
                  {"jit", process.python->jit},
                  {"usdt", or_null(process.python->usdt)},
                  {"refusal", or_null(process.python->refusal)}};
    json rss = render_balance(total);
    rss["peak_bytes"] = process.peak_bytes;
    json owners = json::array();
    for (const auto &[name, sum] : process.owners)
        owners.push_back({{"owner", name}, {"grown_bytes", sum.grown}, {"returned_bytes", sum.returned}});
    json arenas = nullptr;
    if (process.arenas) {
        arenas = {{"size_bytes", process.arenas->size_bytes}, {"start", or_null(process.arenas->start)},
                  {"end", or_null(process.arenas->end)},      {"created", process.arenas->created},
                  {"released", process.arenas->released},     {"lines", json::array()}};
        for (const auto &[place, sum] : process.arenas->places) {
            json row = render_place(place);
            row["created"] = sum.created;
            row["released"] = sum.released;
            arenas["lines"].push_back(std::move(row));
        }
    }
    return {{"pid", process.pid},
            {"parent_pid", process.parent_pid ? json(process.parent_pid) : json(nullptr)},
            {"cmdline", process.cmdline},
            {"cgroup", or_null(process.cgroup)},
            {"opened_by", process.opened_by},
            {"closed_by", process.closed_by},
            {"duration_ns", process.duration_ns},
            {"python", python},
            {"rss", rss},
            {"members",
             {{"anonymous", render_balance(process.balances.anonymous)},
              {"file", render_balance(process.balances.file)},
              {"shared", render_balance(process.balances.shared)}}},
            {"owners", owners},
            {"native", render_native(process)},
            {"heaviest_chain", render_chain(process.heaviest_chain)},
            {"lines", render_lines(process)},
            {"returns", render_returns(process)},
            {"resident", process.resident ? render_resident(*process.resident) : json()},
            {"copy_on_write", process.copies ? render_copies(*process.copies) : json()},
            {"layers", look ? render_layers(*look) : json()},
            {"layers_rss_bytes", look ? json(look->rss_bytes) : json()},
            {"layers_at_programs_end", look && look->at_programs_end},
            {"layers_missing", text_or_null(process.look.missing)},
            {"findings_incomplete", look ? json(look->explanation.incomplete) : json()},
            {"held_ns", or_null(process.look.held_ns)},
            {"findings", render_findings(process.findings)},
            {"syscalls", render_calls(process)},
            {"arenas", arenas},
            {"function_calls", process.function_calls ? render_function_calls(*process.function_calls) : json()},
            {"gc", render_collections(process)},
            {"imports", process.imports ? render_imports(*process.imports) : json()},
            {"missing", render_missing(process.missing)}};
}

std::string dump(const json &value) {
    return value.dump(2, ' ', true, json::error_handler_t::replace);
}

}  // namespace

void render_json(const Report &report, const std::function<void(std::string_view)> &write) {
    json programs = nullptr;
    if (!report.programs.empty()) {
        programs = json::array();
        for (const ProgramCost &program : report.programs)
            programs.push_back({{"name", program.name}, {"runs", program.runs}, {"run_ns", program.run_ns}});
    }
    json line_check = nullptr;
    if (report.line_check)
        line_check = {{"frames_compared", report.line_check->compared},
                      {"frames_differing", report.line_check->differing}};
    json root = {{"schema", "memtrace.report/1"},
                 {"engine", report.engine},
                 {"line_check", line_check},
                 {"duration_ns", report.duration_ns},
                 {"lost_events", report.lost_events},
                 {"failures", report.failures},
                 {"tracer",
                  {{"version", MEMTRACE_VERSION},
                   {"kernel", report.kernel},
                   {"rss_source", report.rss_source},
                   {"cpu_ns", report.tracer_cpu_ns},
                   {"peak_rss_bytes", report.tracer_peak_rss_bytes},
                   {"bpf_map_bytes", or_null(report.tracer_map_bytes)},
                   {"programs", programs}}}};
    // The last member is added to its text.
    std::string head = dump(root);
    head.resize(head.size() - std::string_view("\n}").size());
    write(head + ",\n  \"processes\": [\n");
    for (const ReportProcess &process : report.processes) {
        std::string text = "    ";
        for (char c : dump(render_process(process))) {
            text += c;
            if (c == '\n')
                text += "    ";
        }
        write(text + (&process == &report.processes.back() ? "\n" : ",\n"));
    }
    write("  ]\n}\n");
}

}  // namespace memtrace
