// SPDX-License-Identifier: Apache-2.0
#include "report/diagnosis.h"

#include <fcntl.h>
#include <fmt/core.h>

#include <cerrno>
#include <cstring>

#include "base/file_descriptor.h"
#include "process/proc_files.h"

namespace memtrace {

namespace {

// Why the files that a process maps cannot be opened; empty when they can.
std::string why_not_ours(int pid) {
    auto mappings = read_mappings(pid);
    if (!mappings)
        return fmt::format("it is not ours to look at: {}", strerror(errno));
    for (const Mapping &mapping : *mappings) {
        if (!mapping.inode)
            continue;
        if (FileDescriptor(open(mapping.map_file(pid).c_str(), O_PATH | O_CLOEXEC)))
            return "";
        return fmt::format("the files that it maps are not ours to open: {}", strerror(errno));
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
    if (process.python) {
        process.python->probes = read_usdt_probes(process.python->open_path(pid), process.python->version);
        process.engines.push_back(judge_stack_engine(*process.python));
        process.engines.push_back(judge_line_engine(pid, *process.python, process.engines[0]));
    }
    return process;
}

}  // namespace memtrace
