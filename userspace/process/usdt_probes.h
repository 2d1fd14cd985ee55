// SPDX-License-Identifier: Apache-2.0
// Which static probes of the provider "python" an ELF file offers, and which of them may be used on that version of
// CPython. A build without dtrace has none; nothing but the line engine needs any.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "process/python_layouts.h"

namespace memtrace {

struct UsdtProbe {
    std::string name;   // "line", "gc__start", ...
    int locations = 0;  // newer compilers leave several notes for one probe: attach to all
    bool has_semaphore = false;
    std::string refusal;          // empty when it may be used; otherwise one sentence: why not
    std::string note;             // a condition under which it fires, or a doubt; may be empty
    bool only_with_line = false;  // fires only while the probe "line" is attached too
};

// The python: probes of an executable or libpython, sorted by name. Null when the file cannot be read, or is made so
// that reading it fails: it is the target's, and may be hostile.
std::optional<std::vector<UsdtProbe>> read_usdt_probes(const std::string &elf_path, const PythonVersion &version);

// Why the one of this name cannot be used, in one sentence; empty when it can. `probes` as read_usdt_probes gives them.
std::string probe_refusal(const std::optional<std::vector<UsdtProbe>> &probes, std::string_view name);

// Why calls of functions cannot be counted, in one sentence; empty when they can.
std::string calls_refusal(const std::optional<std::vector<UsdtProbe>> &probes, bool line_is_attached);

// The one of this name; null when there is none.
const UsdtProbe *find_probe(const std::vector<UsdtProbe> &probes, std::string_view name);

}  // namespace memtrace
