// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/printable.h"
#include "render/or_null.h"
#include "render/render.h"

namespace memtrace {

namespace {

using json = nlohmann::ordered_json;

// One line of the table, and one below it with what to do.
struct Row {
    std::string name;
    std::optional<bool> ok;
    std::string found;
    std::string remedy;
};

void render_rows(std::string &out, const std::string &title, const std::vector<Row> &rows) {
    size_t width = 0;
    for (const Row &row : rows)
        width = std::max(width, row.name.size());
    out += fmt::format("\n{}\n", title);
    for (const Row &row : rows) {
        const char *answer = !row.ok ? "?" : *row.ok ? "yes" : "no";
        out += fmt::format("  {:<{}}  {:<3}  {}\n", row.name, width, answer, row.found);
        if (row.ok != true && !row.remedy.empty())
            out += fmt::format("  {:<{}}       {}\n", "", width, row.remedy);
    }
}

std::vector<Row> rows_of(const std::vector<Check> &checks) {
    std::vector<Row> rows;
    for (const Check &check : checks)
        rows.push_back({check.name, check.ok, check.found, check.remedy});
    return rows;
}

Row row_of(const EngineVerdict &engine) {
    std::string name = engine.name + " engine";
    if (!engine.usable)
        return {name, false, engine.reason, engine.alternative};
    return {name, true,
            engine.name == "stack"
                ? "each line that moves memory, with its whole stack"
                : "each line that runs, at a price of about 1 \u00b5s; the stack engine gives the same bytes",
            ""};
}

Row row_of(const UsdtProbe &probe) {
    std::string found = fmt::format("{} location{}", probe.locations.size(), probe.locations.size() == 1 ? "" : "s");
    if (!probe.note.empty())
        found += "; " + probe.note;
    return {"python:" + probe.name, probe.refusal.empty(), probe.refusal.empty() ? found : probe.refusal, ""};
}

std::vector<Row> rows_of(const ProcessDiagnosis &process) {
    if (!process.python)
        return {{"interpreter", std::nullopt, process.obstacle, process.remedy}};
    const FoundPython &python = *process.python;
    std::vector<Row> rows = {{"interpreter", true,
                              fmt::format("CPython {}, {}", python.version_string(), printable(python.module_path)),
                              ""}};
    for (const EngineVerdict &engine : process.engines)
        rows.push_back(row_of(engine));
    if (!python.probes)
        rows.push_back({"probes", std::nullopt, "they cannot be read", ""});
    else if (python.probes->empty())
        rows.push_back({"probes", false, "this build has none", "only the line engine needs any"});
    else
        for (const UsdtProbe &probe : *python.probes)
            rows.push_back(row_of(probe));
    return rows;
}

json render_checks(const std::vector<Check> &checks) {
    json rows = json::array();
    for (const Check &check : checks)
        rows.push_back({{"name", check.name},
                        {"ok", or_null(check.ok)},
                        {"required", check.required},
                        {"found", check.found},
                        {"remedy", text_or_null(check.remedy)}});
    return rows;
}

json render_process(const ProcessDiagnosis &process) {
    json rendered = {{"pid", process.pid},
                     {"obstacle", text_or_null(process.obstacle)},
                     {"python", nullptr},
                     {"engines", json::array()},
                     {"probes", nullptr}};
    for (const EngineVerdict &engine : process.engines)
        rendered["engines"].push_back({{"name", engine.name},
                                       {"usable", engine.usable},
                                       {"reason", text_or_null(engine.reason)},
                                       {"alternative", text_or_null(engine.alternative)}});
    if (!process.python)
        return rendered;
    rendered["python"] = {{"version", process.python->version_string()}, {"module_path", process.python->module_path}};
    if (!process.python->probes)
        return rendered;
    rendered["probes"] = json::array();
    for (const UsdtProbe &probe : *process.python->probes)
        rendered["probes"].push_back({{"name", probe.name},
                                      {"locations", probe.locations.size()},
                                      {"has_semaphore", probe.has_semaphore},
                                      {"usable", probe.refusal.empty()},
                                      {"reason", text_or_null(probe.refusal)},
                                      {"note", text_or_null(probe.note)}});
    return rendered;
}

}  // namespace

std::string render_doctor_table(const Diagnosis &diagnosis) {
    auto obstacles = diagnosis.obstacles();
    std::string out = fmt::format("memtrace {} ", MEMTRACE_VERSION);
    out += obstacles.empty() ? "can trace here.\n"
                             : fmt::format("cannot trace here, because of: {}.\n", fmt::join(obstacles, ", "));
    render_rows(out, "Kernel", rows_of(diagnosis.kernel));
    render_rows(out, "User", rows_of(diagnosis.user));
    if (diagnosis.process)
        render_rows(out, fmt::format("Process {}", diagnosis.process->pid), rows_of(*diagnosis.process));
    return out;
}

std::string render_doctor_json(const Diagnosis &diagnosis) {
    json root = {{"schema", "memtrace.doctor/1"},
                 {"version", MEMTRACE_VERSION},
                 {"ready", diagnosis.obstacles().empty()},
                 {"kernel", render_checks(diagnosis.kernel)},
                 {"user", render_checks(diagnosis.user)},
                 {"process", diagnosis.process ? render_process(*diagnosis.process) : json(nullptr)}};
    return root.dump(2, ' ', true, json::error_handler_t::replace) + "\n";
}

}  // namespace memtrace
