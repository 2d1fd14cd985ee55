// SPDX-License-Identifier: Apache-2.0
#include "cli/commands.h"

#include <linux/capability.h>
#include <signal.h>
#include <spdlog/spdlog.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <functional>
#include <map>

#include "base/failure.h"
#include "base/memory_budget.h"
#include "base/printable.h"
#include "cli/child.h"
#include "cli/output.h"
#include "cli/watch.h"
#include "collect/kernel.h"
#include "collect/uprobes.h"
#include "process/capabilities.h"
#include "process/reading_child.h"
#include "render/render.h"
#include "report/redact.h"

namespace memtrace {

namespace {

std::string name_of(int pid) {
    std::string name = read_whole_file(fmt::format("/proc/{}/comm", pid)).value_or("?");
    while (!name.empty() && name.back() == '\n')
        name.pop_back();
    return printable(name);
}

void require_process(int pid) {
    if (!process_exists(pid))
        fail("there is no process {}", pid);
    if (pid == getpid())
        fail("process {} is memtrace itself", pid);
}

void require_memory(int pid) {
    if (!has_memory(pid))
        fail("process {} ({}) has no memory of its own: it is a kernel thread, or has ended and waits for its parent",
             pid, name_of(pid));
}

[[noreturn]] void fail_not_python(int pid) {
    if (std::string why = why_untold(pid); !why.empty())
        fail("whether process {} ({}) is a Python process cannot be told: {}", pid, name_of(pid), why);
    fail("process {} ({}) is not a Python process: no CPython interpreter is mapped in it", pid, name_of(pid));
}

FoundPython require_python(int pid) {
    require_memory(pid);
    char any;
    if (ReadingChild::instance().read_proc_file(pid, "maps", 0, &any, 1) < 0)
        fail("process {} ({}) is not ours to trace: {}", pid, name_of(pid), ReadingChild::describe(errno));
    auto python = find_python(pid);
    if (!python)
        fail_not_python(pid);
    if (python->runtime.state != MT_PYTHON_READY)
        spdlog::warn("process {}: {}; bytes are counted, lines are not known", pid, python->refusal);
    return *python;
}

void require_utf8(const Options &options, const std::vector<std::string> &words, const std::string &folder) {
    if (options.engine != Engine::kLine && !options.function_calls)
        return;
    if (std::string refusal = name_refusal(words, folder); !refusal.empty())
        fail("{} cannot be used here: {}; without it, the tables show the same bytes",
             options.engine == Engine::kLine ? "--engine line" : "--calls", refusal);
}

// The probes that the user has asked for by an option.
void require_probes(const Options &options, const FoundPython &python, const std::string &file) {
    if (options.engine != Engine::kLine && !options.imports && !options.function_calls)
        return;
    if (Check check = check_probes(); check.ok != true)
        fail("--engine line, --calls and --imports cannot be used: {}: {}", check.found, check.remedy);
    auto probes = read_usdt_probes(file, python.version);
    auto require = [&](const std::string &refusal, const char *option, const char *instead) {
        if (!refusal.empty())
            fail("{} cannot be used on {} (CPython {}): {}; {}", option, python.module_path, python.version_string(),
                 refusal, instead);
    };
    if (options.engine == Engine::kLine)
        require(probe_refusal(probes, "line"), "--engine line", "the stack engine, without it, gives the same bytes");
    if (options.imports)
        require(probe_refusal(probes, "import__find__load__start"), "--imports",
                "without it, the tables show what the lines that import have made resident");
    if (options.function_calls)
        require(calls_refusal(probes, options.engine == Engine::kLine), "--calls",
                "without it, the tables show the same bytes");
}

// Asks this of each process. One of several for which it fails is left out, with a warning; with none left, we fail.
void keep_possible(std::vector<int> &pids, const std::function<void(int)> &require) {
    std::vector<int> kept;
    for (int pid : pids) {
        try {
            require(pid);
            kept.push_back(pid);
        } catch (const Failure &failure) {
            if (kept.empty() && pid == pids.back())
                throw;
            spdlog::warn("{}; it is left out", failure.what());
        }
    }
    pids = kept;
}

TracerSettings settings_of(const Options &options) {
    RssSource best = kernel_types().rss_source;
    if (options.rss_source == RssSource::kBtf && best == RssSource::kClassic)
        fail(
            "--rss-source btf cannot be used: this kernel ({}) has no BTF, or its tp_btf/rss_stat is not one that "
            "memtrace knows; kmem:rss_stat, without it, gives the same bytes",
            kernel_release());
    return {options.rss_source.value_or(best) == RssSource::kClassic ? RssSource::kClassic : best,
            options.engine,
            options.children,
            options.imports,
            options.function_calls,
            options.owners,
            options.empty_line_probe};
}

// Nobody shall turn this on unaware in production.
void warn_of_cost(const Options &options) {
    if (options.engine == Engine::kLine)
        spdlog::warn(
            "the line engine makes every line of Python take about a microsecond longer, whether or not memory moves: "
            "expect a program that computes to run 10 to 100 times slower until memtrace ends; without --engine line "
            "the same bytes cost it next to nothing");
    if (options.function_calls)
        spdlog::warn(
            "counting calls makes every call of a Python function take about a microsecond longer: expect a program of "
            "small functions to run 10 to 20 times slower until memtrace ends");
}

void write_report(Session &session, const Options &options, Output &output, LastLook look) {
    Report report = build_report(session, options.filter, look);
    if (options.redact)
        redact(report);
    bool all_functions = !options.filter.files.empty() || !options.filter.functions.empty();
    if (options.format == Format::kJson)
        render_json(report, [&output](std::string_view piece) { output.append(piece); });
    else
        output.append(render_table(report, all_functions));
    output.finish();
}

Readers readers(const Options &options) {
    return options.redact ? Readers::kAll : Readers::kOwner;
}

// What is loaded needs no more than this to go on: to attach probes to what begins later, to read other users'
// processes, to be the user whose sources are read, and to hand signals on. At hand stays what writing the report may
// need.
void drop_privileges() {
    std::vector<int> in_use = {CAP_BPF,    CAP_PERFMON, CAP_SYS_PTRACE, CAP_CHECKPOINT_RESTORE, CAP_DAC_READ_SEARCH,
                               CAP_SETUID, CAP_SETGID,  CAP_KILL};
    if (!has_uprobe_multi())
        in_use.push_back(CAP_SYS_ADMIN);
    if (kernel_is_before(5, 11))
        in_use.push_back(CAP_SYS_RESOURCE);
    keep_capabilities(in_use, {CAP_DAC_OVERRIDE, CAP_FOWNER});
}

LastLook last_look(const Options &options) {
    return {options.look, std::chrono::duration<double>(options.look_seconds), is_told_to_end};
}

bool status_wanted(const Options &options) {
    return !options.quiet && isatty(STDERR_FILENO);
}

// Ends as the command did, so that whoever waits for us sees what it would have seen.
int exit_as(int wait_status) {
    if (WIFEXITED(wait_status))
        return WEXITSTATUS(wait_status);
    int number = WTERMSIG(wait_status);
    rlimit no_core{0, 0};
    setrlimit(RLIMIT_CORE, &no_core);
    signal(number, SIG_DFL);
    sigset_t only;
    sigemptyset(&only);
    sigaddset(&only, number);
    sigprocmask(SIG_UNBLOCK, &only, nullptr);
    raise(number);
    return 128 + number;
}

}  // namespace

int run_attach(const Options &options) {
    std::vector<int> pids = options.pids;
    keep_possible(pids, require_process);
    require_permissions();
    TracerSettings settings = settings_of(options);
    std::map<int, FoundPython> pythons;
    keep_possible(pids, [&](int pid) {
        FoundPython python = require_python(pid);
        require_utf8(options, read_identity(pid).cmdline, working_folder(pid));
        require_probes(options, python, python.open_path(pid));
        pythons.emplace(pid, std::move(python));
    });
    require_bpf(settings.source);
    Output output(options.output, STDOUT_FILENO, readers(options));

    block_signals();
    warn_of_cost(options);
    MemoryBudget::instance().set_limit(options.max_memory_bytes);
    Session session(settings);
    drop_privileges();
    keep_possible(pids, [&](int pid) {
        if (!session.follow(pid, pythons.at(pid)))
            fail("process {} ended before memtrace could attach to it", pid);
    });

    WatchPlan plan;
    if (options.duration_s)
        plan.duration = std::chrono::duration<double>(*options.duration_s);
    plan.show_status = status_wanted(options);
    plan.is_over = [&] { return session.all_closed(); };
    plan.on_signal = [](const Signal &) { return true; };
    watch(session, plan);
    session.finish();
    write_report(session, options, output, last_look(options));
    return 0;
}

int run_command(const Options &options) {
    require_permissions();
    TracerSettings settings = settings_of(options);
    require_bpf(settings.source);
    Output output(options.output, STDERR_FILENO, readers(options));
    require_utf8(options, options.argv, working_folder(getpid()));
    if (auto python = find_python_of_command(options.argv[0]))
        require_probes(options, *python, python->module_path);
    block_signals();
    Child child(options.argv);
    warn_of_cost(options);
    MemoryBudget::instance().set_limit(options.max_memory_bytes);
    Session session(settings);
    drop_privileges();
    session.expect(child.pid(), options.argv[0], options.look);
    child.release();

    int wait_status = 0;
    int terminations = 0;
    bool ended = false;
    LastLook look = last_look(options);
    WatchPlan plan;
    plan.show_status = status_wanted(options);
    plan.is_over = [&] {
        if (auto ending = session.take_ending()) {
            child.wait_until_stopped();
            look.take_early(session, *ending, [&] { child.resume(); });
        }
        return ended = child.has_ended(wait_status);
    };
    plan.on_signal = [&](const Signal &signal) {
        // The terminal has sent it to the command too. Else it was meant for the command, which we stand for.
        if (!signal.from_terminal)
            kill(child.pid(), signal.number);
        // Who asks twice wants the report now, whatever the command does.
        return signal.number == SIGTERM && ++terminations > 1;
    };
    watch(session, plan);
    session.finish();
    if (session.take_ending())
        child.resume();  // it came to its end as we stopped watching
    try {
        write_report(session, options, output, std::move(look));
    } catch (const Failure &failure) {
        spdlog::error("{}", failure.what());  // whoever waits for the command learns what became of it all the same
    }
    if (!ended) {
        spdlog::warn("{} still runs as process {}", options.argv[0], child.pid());
        return 128 + SIGTERM;
    }
    return exit_as(wait_status);
}

int run_explain(const Options &options) {
    int pid = options.pids[0];
    require_process(pid);
    Output output(options.output, STDOUT_FILENO);
    MemoryBudget::instance().set_limit(options.max_memory_bytes);
    keep_capabilities({CAP_SYS_PTRACE, CAP_CHECKPOINT_RESTORE, CAP_DAC_READ_SEARCH, CAP_SETUID, CAP_SETGID},
                      {CAP_DAC_OVERRIDE, CAP_FOWNER});
    Explanation explanation = explain(pid, require_python(pid), options.freeze);
    if (options.redact)
        redact(explanation);
    output.write(options.format == Format::kJson ? render_explanation_json(explanation)
                                                 : render_explanation_table(explanation));
    return 0;
}

int run_doctor(const Options &options) {
    Output output("", STDOUT_FILENO);
    Diagnosis diagnosis = diagnose_host();
    for (int pid : options.pids) {
        require_process(pid);
        require_memory(pid);
        diagnosis.process = diagnose_process(pid);
        if (!diagnosis.process->python && diagnosis.process->obstacle.empty())
            fail_not_python(pid);
    }
    output.write(options.format == Format::kJson ? render_doctor_json(diagnosis) : render_doctor_table(diagnosis));
    return diagnosis.obstacles().empty() ? 0 : kExitNotReady;
}

}  // namespace memtrace
