// SPDX-License-Identifier: Apache-2.0
#include "report/diagnosis.h"

#include <fcntl.h>
#include <fmt/core.h>

#include <cerrno>
#include <cstring>

#include "base/file_descriptor.h"
#include "process/proc_files.h"
#include "process/reading_child.h"
#include "process/sandbox.h"

namespace memtrace {

namespace {

// Why the files that a process maps cannot be opened; empty when they can.
std::string why_not_ours(int pid) {
    auto mappings = read_mappings(pid);
    if (!mappings)
        return fmt::format("it is not ours to look at: {}", ReadingChild::describe(errno));
    for (const Mapping &mapping : *mappings) {
        if (!mapping.inode)
            continue;
        // In a child, for it waits for a process whose mappings are locked.
        auto error = ask_sandbox(pid, {}, [&] {
            bool is_open = bool(FileDescriptor(open(mapping.map_file(pid).c_str(), O_PATH | O_CLOEXEC)));
            std::string number = is_open ? "" : std::to_string(errno);
            return [number] { return number; };
        });
        if (!error || error->empty())
            return "";  // why_untold() tells of those that were not to be asked about
        return fmt::format("the files that it maps are not ours to open: {}", strerror(std::stoi(*error)));
    }
    return "";
}

EngineVerdict judge_stack_engine(const FoundPython &python) {
    if (python.runtime.state == MT_PYTHON_READY)
        return {"stack", true, "", ""};
    return {"stack", false, python.refusal, "bytes are counted, and lines are not known"};
}

EngineVerdict judge_line_engine(int pid, const FoundPython &python, const EngineVerdict &stack) {
    Check uprobes = check_probes();
    std::string refusal = uprobes.ok == true ? probe_refusal(python.probes, "line") : uprobes.found;
    if (refusal.empty())
        refusal = name_refusal(read_identity(pid).cmdline, working_folder(pid));
    if (refusal.empty())
        return {"line", true, "", ""};
    return {"line", false, refusal, stack.usable ? "the stack engine gives the same bytes" : stack.alternative};
}

}  // namespace

std::vector<std::string> Diagnosis::obstacles() const {
    std::vector<std::string> names;
    for (const std::vector<Check> *checks : {&kernel, &user})
        for (const Check &check : *checks)
            if (check.required && check.ok != true)
                names.push_back(check.name);
    if (process && !process->python)
        names.push_back(fmt::format("process {}", process->pid));
    return names;
}

Diagnosis diagnose_host() {
    return {check_kernel(), check_user(), std::nullopt};
}

ProcessDiagnosis diagnose_process(int pid) {
    ProcessDiagnosis process;
    process.pid = pid;
    process.obstacle = why_not_ours(pid);
    if (!process.obstacle.empty())
        return process;
    process.python = find_python(pid);
    if (std::string why = why_untold(pid); !process.python && !why.empty()) {
        process.obstacle = "whether it is a Python process cannot be told: " + why;
        process.remedy.clear();
    }
    if (process.python) {
        process.python->probes = read_usdt_probes(process.python->open_path(pid), process.python->version);
        process.engines.push_back(judge_stack_engine(*process.python));
        process.engines.push_back(judge_line_engine(pid, *process.python, process.engines[0]));
    }
    return process;
}

}  // namespace memtrace
