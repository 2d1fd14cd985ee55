// SPDX-License-Identifier: Apache-2.0
// What `memtrace doctor` found, as values. Field by field this is docs/doctor.schema.json.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "collect/kernel.h"
#include "process/find_python.h"

namespace memtrace {

struct EngineVerdict {
    std::string name;
    bool usable = false;
    std::string reason;       // why it is not
    std::string alternative;  // what there is instead
};

struct ProcessDiagnosis {
    int pid = 0;
    std::optional<FoundPython> python;  // null: `obstacle` says why it was not looked for, or there is none
    std::string obstacle;
    std::string remedy = "run memtrace with sudo";  // of the obstacle; may be empty
    std::vector<EngineVerdict> engines;  // of a process with Python
};

struct Diagnosis {
    std::vector<Check> kernel;
    std::vector<Check> user;
    std::optional<ProcessDiagnosis> process;  // when one was named

    // What keeps memtrace from tracing, by name.
    std::vector<std::string> obstacles() const;
};

Diagnosis diagnose_host();
// A process that exists and has memory. Nothing is thrown for one that is not ours to look at.
ProcessDiagnosis diagnose_process(int pid);

}  // namespace memtrace
