// SPDX-License-Identifier: Apache-2.0
#include "render/render.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace memtrace {
namespace {

Report small_report() {
    Report report;
    report.kernel = "6.18";
    report.rss_source = "tp_btf/rss_stat";
    ReportProcess process;
    process.pid = 42;
    process.cmdline = {"python3", "app.py"};
    process.opened_by = "exec";
    process.closed_by = "exit";
    process.python = ReportPython{"3.11.2", false, false, std::nullopt, std::nullopt};
    process.balances.anonymous = {0, 30 << 20, 40 << 20, 10 << 20};
    process.owners["python"] = {40 << 20, 10 << 20, 0, 0, 0};
    ReportFunction function{"/app.py", "f", 1, false, 40 << 20, 8003584, {}};
    function.lines.push_back({"/app.py", "f", 1, "def f():", std::nullopt, std::nullopt});
    function.lines.push_back(
        {"/app.py", "f", 2, "    del x", LineSum{0, 8003584, 30 << 20, 40 << 20, 1}, std::nullopt});
    process.functions.push_back(function);
    report.processes.push_back(process);
    return report;
}

nlohmann::json json_of(const Report &report) {
    std::string text;
    render_json(report, [&text](std::string_view piece) { text += piece; });
    return nlohmann::json::parse(text);
}

TEST(Render, MebibytesHaveTwoDecimalsAndNoNegativeZero) {
    EXPECT_EQ(render_mib(-8003584), "-7.63 MiB");
    EXPECT_EQ(render_mib(-4096), "0.00 MiB");
    EXPECT_EQ(render_mib(0), "0.00 MiB");
}

TEST(Render, TableHasMemoryProfilersColumns) {
    std::string table = render_table(small_report(), false);
    EXPECT_NE(table.find("Line #      Mem usage     Increment         Grown      Returned   Line Contents\n"),
              std::string::npos);
    EXPECT_NE(table.find("     2      30.00 MiB     -7.63 MiB      0.00 MiB     -7.63 MiB       del x\n"),
              std::string::npos)
        << table;
    EXPECT_NE(table.find("RSS from 0.00 MiB to 30.00 MiB"), std::string::npos);
}

TEST(Render, LostEventsAreOnTheFirstLineAndNamed) {
    Report report = small_report();
    report.lost_events = 3;
    report.failures["charges_full"] = 3;
    std::string table = render_table(report, false);
    EXPECT_NE(table.substr(0, table.find('\n')).find("lost events: 3"), std::string::npos);
    EXPECT_NE(table.find("charges_full: 3 changes of the resident set were not charged"), std::string::npos);
}

TEST(Render, WhatIsMissingIsNotSaidOfWhatIsThere) {
    Report report = small_report();
    report.lost_events = 2;
    report.failures["accounts_full"] = 2;
    std::string table = render_table(report, false);
    EXPECT_NE(table.find("accounts_full: 2 processes were not followed"), std::string::npos);
    EXPECT_EQ(table.find("unexplained\""), std::string::npos) << table;
}

TEST(Render, FailuresAreSaidOnceAndWithoutAPythonToo) {
    Report report = small_report();
    report.failures["code_unreadable"] = 1;
    report.processes.push_back(report.processes[0]);
    std::string table = render_table(report, false);
    EXPECT_EQ(table.find("code_unreadable"), table.rfind("code_unreadable"));
    for (ReportProcess &process : report.processes)
        process.python.reset();
    report.lost_events = 7;
    table = render_table(report, false);
    EXPECT_EQ(table.substr(0, table.find('\n')), "2 processes | stack engine | 0.00 s | lost events: 7");
    EXPECT_NE(table.find("code_unreadable: 1 code object was not read whole"), std::string::npos);
}

TEST(Render, AnIdlePythonThatWasAskedForIsShown) {
    Report report = small_report();
    for (int pid : {43, 44, 45, 46}) {
        report.processes.push_back(report.processes[0]);
        report.processes.back().pid = pid;
        report.processes.back().owners.clear();
        report.processes.back().functions.clear();
    }
    report.processes[1].opened_by = "attach";
    report.processes[2].opened_by = "fork";
    report.processes[3].opened_by = "exec";
    report.processes[4].opened_by = "fork";
    report.processes[4].closed_by = "exec";
    report.processes[4].cmdline = {"other"};
    std::string table = render_table(report, false);
    EXPECT_NE(table.find("process 43:"), std::string::npos);
    EXPECT_EQ(table.find("process 44:"), std::string::npos);
    EXPECT_NE(table.find("1 process ran no Python that was seen (other)"), std::string::npos) << table;
    EXPECT_NE(table.find("2 processes ran Python, of which no line changed the resident set while it was followed "
                         "(python3)"),
              std::string::npos)
        << table;
}

TEST(Render, TheLookThatIsMissingAndTheOneThatHeldTheCommand) {
    Report report = small_report();
    report.processes[0].look.missing = "it had ended";
    EXPECT_NE(render_table(report, false).find("\nWhy memory is resident was not looked at: it had ended.\n"),
              std::string::npos);
    EXPECT_TRUE(json_of(report)["processes"][0]["held_ns"].is_null());
    report.processes[0].look.held_ns = 1'260'000'000;
    EXPECT_NE(render_table(report, false).find("It was held for 1.26 s"), std::string::npos);
}

TEST(Render, LibrariesLinesWhereTheProgramsOwnAreLight) {
    Report report = small_report();
    ReportProcess &process = report.processes[0];
    process.functions[0].of_a_library = true;
    process.heaviest_chain = {{"/app.py", "<module>", 0, 9, std::nullopt, 40 << 20},
                              {"/app.py", "f", 1, 2, "    del x", 30 << 20}};
    std::string table = render_table(report, false);
    EXPECT_NE(table.find("by this chain of calls\n         Grown   Where\n"
                         "     40.00 MiB   /app.py:9  <module>\n     30.00 MiB   /app.py:2  f   del x\n"),
              std::string::npos)
        << table;
    EXPECT_NE(table.find("File /app.py, function f"), std::string::npos);
    ReportFunction own{"/main.py", "main", 1, false, 39 << 20, 0, {}};
    process.functions.push_back(own);
    table = render_table(report, false);
    EXPECT_EQ(table.find("File /app.py, function f"), std::string::npos);
    EXPECT_NE(table.find("1 more function of libraries"), std::string::npos);
}

TEST(Render, CommandLinesCannotObeyTheTerminal) {
    Report report = small_report();
    report.processes[0].cmdline = {"python3", "\x1b[2J"};
    EXPECT_EQ(render_table(report, false).find('\x1b'), std::string::npos);
}

TEST(Render, JsonKeepsIntegersAndNulls) {
    auto json = json_of(small_report());
    auto process = json["processes"][0];
    EXPECT_EQ(process["rss"]["unexplained_bytes"], 0);
    EXPECT_EQ(process["lines"].size(), 1u);
    EXPECT_EQ(process["lines"][0]["returned_bytes"], 8003584);
    EXPECT_TRUE(process["lines"][0]["occurrences"].is_null());
    EXPECT_TRUE(process["cgroup"].is_null());
    EXPECT_TRUE(json["tracer"]["programs"].is_null());
    EXPECT_TRUE(process["python"]["usdt"].is_null());
}

TEST(Render, JsonTellsNoProbesFromUnknownProbes) {
    Report report = small_report();
    report.processes[0].python->usdt = std::vector<std::string>{};
    EXPECT_EQ(json_of(report)["processes"][0]["python"]["usdt"], nlohmann::json::array());
    report.processes[0].python->usdt->push_back("line");
    EXPECT_EQ(json_of(report)["processes"][0]["python"]["usdt"][0], "line");
}

TEST(Render, JsonSurvivesBytesThatAreNoText) {
    Report report = small_report();
    report.processes[0].cmdline = {"\xff\xfe"};
    EXPECT_NO_THROW(json_of(report));
}

TEST(Render, StatusLine) {
    Progress progress;
    progress.elapsed = std::chrono::seconds(12);
    progress.rss = 5 << 20;
    EXPECT_EQ(render_status(progress), "12 s | RSS 5.00 MiB | grown 0.00 MiB | returned 0.00 MiB | lost events 0");
}

}  // namespace
}  // namespace memtrace
