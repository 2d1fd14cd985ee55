// SPDX-License-Identifier: Apache-2.0
#include "cli/options.h"

#include <CLI/CLI.hpp>
#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <iostream>
#include <set>
#include <string_view>
#include <utility>

#include "base/failure.h"

namespace memtrace {

namespace {

constexpr double kMaxDurationSeconds = 366.0 * 24 * 3600;

constexpr const char *kDescription =
    "memtrace watches the memory of unmodified, running Python programs from the kernel's side. It says which line "
    "made the resident set grow, which line gave memory back, and by which call.\n\n"
    "  sudo memtrace -p PID              attach to a process; report when you press Ctrl-C\n"
    "  sudo memtrace run -- python3 X    trace a program from its first instruction\n"
    "       memtrace explain PID         where the memory of a process is, as of now\n"
    "       memtrace doctor PID          what this kernel, this user and this interpreter allow\n";

void add_format_option(CLI::App &app, std::string &format) {
    app.add_option("--format", format, "How the report is printed: table, for people, or json, for programs.")
        ->check(CLI::IsMember({"table", "json"}))
        ->capture_default_str();
}

void add_redact_option(CLI::App &app, Options &options) {
    app.add_flag(
        "--redact", options.redact,
        "Leave out source lines, and the arguments of commands: what is left names files, functions, modules and "
        "types, and may be shown to people who may not see the program or its data.");
}

void add_max_memory_option(CLI::App &app, Options &options, const std::string &given_up) {
    app.add_option("--max-memory", options.max_memory_bytes,
                   "memtrace itself keeps to this much memory (64MiB, 1GiB, ...), by giving up detail and saying so: " +
                       given_up + ". 256 MiB unless told.")
        ->transform(CLI::AsSizeValue(false))
        ->check(CLI::Range(uint64_t{32} << 20, uint64_t{1} << 40));
}

void add_report_options(CLI::App &app, Options &options, std::string &format, std::string &engine) {
    add_format_option(app, format);
    app.add_option(
        "-o,--output", options.output,
        "Write the report to this file. It is written beside its place, and takes it when it is whole. Without "
        "--redact a new file is for you alone to read, because it quotes sources and arguments.");
    add_redact_option(app, options);
    app.add_option("--function", options.filter.functions,
                   "Report only functions of this name, qualified (Class.method) or not. May be repeated.")
        ->allow_extra_args(false);
    app.add_option(
           "--file", options.filter.files,
           "Report only functions from files that match this pattern, such as 'app/*.py'. With it, functions of "
           "the standard library are shown too. May be repeated.")
        ->allow_extra_args(false);
    app.add_option("--engine", engine,
                   "How lines are found: stack, from the interpreter's frames when memory changes, which costs next to "
                   "nothing; or line, from CPython's own python:line probe, which counts how often each line ran and "
                   "makes a program run many times slower.")
        ->check(CLI::IsMember({"stack", "line"}))
        ->capture_default_str();
    app.add_flag("--calls", options.function_calls,
                 "Count how often each Python function is called, by CPython's function__entry probe: 3.15 and later "
                 "have it, and some builds of 3.11 and before, 3.11 only with --engine line. Makes calls many times "
                 "slower.");
    app.add_flag("--owners", options.owners,
                 "Report what is resident at the end by the line that first touched it. Makes page faults a little "
                 "slower, on the whole host.");
    // Not in --help: it measures the line engine, and reports nothing of use.
    app.add_flag("--empty-line-probe", options.empty_line_probe)->group("");
    app.add_flag("--children,!--no-children", options.children,
                 "Follow processes that are forked while tracing (the default), or do not.");
    app.add_flag_callback(
        "--no-look", [&options] { options.look = false; },
        "Do not look at the end why memory is resident. memtrace run holds its command for that look when the "
        "program has run to its end, for a second and more where the heap is large; the report says for how "
        "long.");
    app.add_option("--look-seconds", options.look_seconds,
                   "Begin no more looks at the end after this many seconds. Processes that were large are looked at "
                   "first; those that are left then have no findings.")
        ->check(CLI::NonNegativeNumber)
        ->capture_default_str();
    add_max_memory_option(app, options,
                          "source lines first, then lines of processes that have ended, then names and lines of code, "
                          "then stacks; bytes are counted all the same");
    app.add_flag("-q,--quiet", options.quiet, "Show no status line while tracing.");
    app.add_flag("--verbose", options.verbose,
                 "Say on standard error what memtrace does, and what the kernel answers.");
}

// "10", "1.5s", "2m", "3h": seconds when there is no unit.
double parse_duration(const std::string &text) {
    constexpr std::pair<std::string_view, double> kUnits[] = {{"", 1}, {"s", 1}, {"m", 60}, {"h", 3600}};
    size_t used = 0;
    double number = NAN;
    try {
        number = std::stod(text, &used);
    } catch (const std::exception &) {
    }
    auto unit = std::find_if(std::begin(kUnits), std::end(kUnits),
                             [&](const auto &known) { return text.substr(used) == known.first; });
    if (!std::isfinite(number) || unit == std::end(kUnits))
        fail_usage("-d takes a number of seconds, or one such as 10s, 2m or 1h, and '{}' is none", text);
    if (number <= 0)
        fail_usage("-d takes a number of seconds above 0, and {} is not", text);
    if (number * unit->second > kMaxDurationSeconds)
        fail_usage("-d takes at most {:.0f} seconds (366 days); leave it out to trace until Ctrl-C",
                   kMaxDurationSeconds);
    return number * unit->second;
}

}  // namespace

std::optional<Options> parse_options(int argc, char **argv) {
    Options options;
    std::string format = "table", engine = "stack", duration, rss_source = "auto";
    CLI::App app(kDescription, "memtrace");
    app.set_version_flag("--version", std::string("memtrace ") + MEMTRACE_VERSION, "Print the version and exit.");
    app.set_help_flag("-h,--help", "Print this help and exit.");
    app.footer(
        "memtrace exits with 0; with 1 when doctor finds that it cannot trace here, 125 when it fails itself, and 2 "
        "when it was called wrongly. 'memtrace run' exits as its "
        "command does, with 127 when there is no such command and 126 when it cannot be executed.");
    app.add_option("-p,--pid", options.pids, "The process to attach to, or several: -p 1,2. May be repeated.")
        ->check(CLI::PositiveNumber)
        ->delimiter(',')
        ->allow_extra_args(false);
    app.add_option("-d,--duration", duration, "Stop and report after this many seconds; 10s, 2m and 1h say the unit.");
    add_report_options(app, options, format, engine);
    app.add_option("--rss-source", rss_source,
                   "Which kernel hook tells of resident-set changes: auto, btf (tp_btf/rss_stat) or classic "
                   "(kmem:rss_stat, for kernels whose counters memtrace does not know).")
        ->check(CLI::IsMember({"auto", "btf", "classic"}))
        ->capture_default_str();

    CLI::App *run = app.add_subcommand("run",
                                       "memtrace run [OPTIONS] -- COMMAND [ARGUMENTS...]\n"
                                       "Trace a command from its first instruction, and its children. Its input, "
                                       "output, signals and exit status are its "
                                       "own. The report goes to standard error, or to the file given with -o.");
    run->set_help_flag("-h,--help", "Print this help and exit.");
    add_report_options(*run, options, format, engine);
    run->add_flag("--imports", options.imports,
                  "Report what each import cost in resident memory, as a tree: its own share, and what it pulled in.");
    run->add_option("--rss-source", rss_source, "As for memtrace itself.")
        ->check(CLI::IsMember({"auto", "btf", "classic"}));

    CLI::App *explain = app.add_subcommand("explain",
                                           "memtrace explain PID\n"
                                           "Say where the memory of a process is, as of now: what is in use, and what "
                                           "the interpreter keeps. Reads it from outside, without BPF.");
    explain->set_help_flag("-h,--help", "Print this help and exit.");
    int pid = 0;  // of explain and doctor
    explain->add_option("-p,--pid,PID", pid, "The process to look into.")->check(CLI::PositiveNumber);
    explain->add_option("-o,--output", options.output, "Write the report to this file.");
    explain->add_flag("--freeze", options.freeze,
                      "Pause the process while it is read, mostly for some milliseconds, so that all figures are of "
                      "one moment. The report says for how long it was paused. It always goes on, whatever happens to "
                      "memtrace meanwhile.");
    add_format_option(*explain, format);
    add_redact_option(*explain, options);
    add_max_memory_option(*explain, options, "cycles are not looked for first, then whose blocks and buffers are");

    CLI::App *doctor = app.add_subcommand("doctor",
                                          "memtrace doctor [PID]\n"
                                          "Say what this kernel, this user and the interpreter of a process allow, "
                                          "and what to do about what they do not. Needs no privileges.");
    doctor->set_help_flag("-h,--help", "Print this help and exit.");
    doctor->add_option("-p,--pid,PID", pid, "The process whose interpreter to look at.")->check(CLI::PositiveNumber);
    add_format_option(*doctor, format);

    // What follows "--" is the command's own, whatever it looks like.
    std::vector<std::string> ours;
    int i = 1;
    for (; i < argc && std::string(argv[i]) != "--"; i++)
        ours.emplace_back(argv[i]);
    bool dashes = i < argc;
    for (i++; i < argc; i++)
        options.argv.emplace_back(argv[i]);
    std::vector<std::string> reversed(ours.rbegin(), ours.rend());
    try {
        app.parse(reversed);
    } catch (const CLI::Success &success) {
        app.exit(success, std::cout, std::cerr);
        return std::nullopt;
    } catch (const CLI::ParseError &error) {
        std::string hint;
        if (run->parsed() && !dashes)
            hint = " (the command to run follows '--')";
        fail_usage("{}{}; see memtrace --help", error.what(), hint);
    }
    options.engine = engine == "line" ? Engine::kLine : Engine::kStack;
    options.format = format == "json" ? Format::kJson : Format::kTable;
    if (rss_source != "auto")
        options.rss_source = rss_source == "btf" ? RssSource::kBtf : RssSource::kClassic;

    // These stand alone: nothing before their name, and no command after them.
    auto take_pid = [&](const std::string &name, const char *options_of_it) {
        if (dashes || !app.parse_order().empty() || app.get_subcommands().size() > 1)
            fail_usage("memtrace {} takes only {}, after its name; see memtrace {} --help", name, options_of_it, name);
        if (pid)
            options.pids = {pid};
    };
    if (doctor->parsed()) {
        options.command = Command::kDoctor;
        take_pid("doctor", "a process (PID or -p PID) and --format");
        return options;
    }
    if (explain->parsed()) {
        options.command = Command::kExplain;
        take_pid("explain", "a process (PID or -p PID), -o, --freeze, --format, --redact and --max-memory");
        if (options.pids.empty())
            fail_usage("name the process to look into: memtrace explain PID");
        return options;
    }
    if (run->parsed()) {
        options.command = Command::kRun;
        if (options.argv.empty())
            fail_usage("there is no command to run: memtrace run -- COMMAND [ARGUMENTS...]");
        if (!options.pids.empty() || !duration.empty())
            fail_usage("-p and -d attach to processes that run already; memtrace run starts its own");
        return options;
    }
    if (dashes)
        fail_usage("a command follows 'memtrace run --'; without run, -p names the process to attach to");
    if (options.pids.empty())
        fail_usage(
            "there is nothing to trace: name a process with -p PID, or a command with memtrace run -- COMMAND; see "
            "memtrace --help");
    std::set<int> unique(options.pids.begin(), options.pids.end());
    options.pids.assign(unique.begin(), unique.end());
    if (!duration.empty())
        options.duration_s = parse_duration(duration);
    return options;
}

}  // namespace memtrace
