// SPDX-License-Identifier: Apache-2.0
// Which static probes of the provider "python" an ELF file offers, and which of them may be used on that version of
// CPython. A build without dtrace has none; nothing but the line engine needs any.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "process/python_layouts.h"
#include "process/usdt_arguments.h"

namespace memtrace {

// Where the code fires it. Offsets are the file's.
struct UsdtLocation {
    uint64_t offset = 0;
    uint64_t semaphore_offset = 0;  // of the counter of those who listen; 0: it has none, and always fires
    std::optional<std::vector<UsdtArgument>> arguments;  // null: described in a way that memtrace does not know
};

struct UsdtProbe {
    std::string name;                     // "line", "gc__start", ...
    std::vector<UsdtLocation> locations;  // newer compilers leave several notes for one probe: attach to all
    bool has_semaphore = false;
    std::string refusal;          // empty when it may be used; otherwise one sentence: why not
    std::string note;             // a condition under which it fires, or a doubt; may be empty
    bool only_with_line = false;  // fires only while the probe "line" is attached too
};

// The python: probes of an executable or libpython, sorted by name. Null when the file cannot be read, or is made so
// that reading it fails: it is the target's, and may be hostile.
std::optional<std::vector<UsdtProbe>> read_usdt_probes(const std::string &elf_path, const PythonVersion &version);

// Pure: what a sandbox that may have been taken over says of a file's notes. As above.
std::optional<std::vector<UsdtProbe>> parse_usdt_notes(const std::string &answer, const PythonVersion &version);

// Whether the compiler has left room for a probe there: anywhere else a breakpoint would break the program. `machine`
// is the ELF header's.
bool is_no_op(const std::array<uint8_t, 5> &code, int machine);

// Why the one of this name cannot be used, in one sentence; empty when it can. `probes` as read_usdt_probes gives them.
std::string probe_refusal(const std::optional<std::vector<UsdtProbe>> &probes, std::string_view name);

// Why calls of functions cannot be counted, in one sentence; empty when they can.
std::string calls_refusal(const std::optional<std::vector<UsdtProbe>> &probes, bool line_is_attached);

// The one of this name; null when there is none.
const UsdtProbe *find_probe(const std::vector<UsdtProbe> &probes, std::string_view name);

// Why the probes that tell a file's name (line, function__entry) would harm a program with this command line and
// working folder; empty when nothing of it is seen. CPython gives the name as UTF-8, and leaves an exception behind
// where it cannot: the program fails for that, sooner or later. Modules of other folders are not seen.
std::string name_refusal(const std::vector<std::string> &cmdline, const std::string &folder);

}  // namespace memtrace
