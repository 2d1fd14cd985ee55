// SPDX-License-Identifier: Apache-2.0
// Is there a CPython in this process, which one, and may its layout be believed?
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "memtrace/wire.h"
#include "process/python_layouts.h"
#include "process/remote_memory.h"
#include "process/usdt_probes.h"

namespace memtrace {

struct FoundPython {
    PythonVersion version;  // micro is -1 when the binary does not tell
    bool free_threaded = false;
    uint32_t jit_flag = MT_NO_FIELD;  // PythonLayout's
    // When the program has run to its end, and nothing is cleared yet, the interpreter sets a word, from
    // runtime.runtime on, and calls a function, whose place in the file this is. Null: there is none.
    std::optional<uint64_t> finalizing;
    std::optional<uint64_t> end_function;
    mt_file_id file{};
    uint64_t bias = 0;        // of the module in this process: 0 for one found in a file
    std::string module_path;  // the executable or libpython, as /proc/PID/maps names it
    std::string map_file;     // its link in /proc/PID/map_files without the folder; empty for one found in a file
    std::optional<std::vector<UsdtProbe>> probes;  // null: not asked for (read_usdt_probes), or not to be read
    mt_python runtime{};                           // state is MT_PYTHON_READY or MT_PYTHON_UNSUPPORTED
    std::string refusal;                           // why it is MT_PYTHON_UNSUPPORTED
    bool awaits_c_library = false;                 // that is why: a program that has just begun may map one yet
    std::string version_string() const;
    // Whether it compiles code as it runs, in a process that has it at `where`. False too when it has not begun.
    bool jit_is_on(const mt_python &where, const RemoteMemory &memory) const;
    // Opens that very file, of this process or of a forked child that has not execed.
    std::string open_path(int pid) const;
    // The runtime with addresses as the file has them.
    mt_python unrelocated() const;
};

// Looks at the process's mapped files, through /proc/PID/map_files, so that deleted and replaced binaries and other
// mount namespaces are right. Null when no CPython is mapped, or that cannot be told (why_untold).
std::optional<FoundPython> find_python(int pid);
// Why it was not to be told of this process; empty when it was, as far as we know.
std::string why_untold(int pid);

// The interpreter that an executable file holds, before anything runs it. Null when there is none.
std::optional<FoundPython> find_python_in_file(const std::string &path);

// The interpreter that executing `command` will start, looked up as execvp does: a script's is the one that its first
// line names, through env too. Null when it is none, or cannot be told.
std::optional<FoundPython> find_python_of_command(const std::string &command);

}  // namespace memtrace
