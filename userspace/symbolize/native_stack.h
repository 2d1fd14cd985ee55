// SPDX-License-Identifier: Apache-2.0
// Whose native code a thread was in: its stack unwound by the call-frame information of the modules it has mapped, and
// the functions named by their symbols.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "memtrace/wire.h"
#include "process/proc_files.h"

namespace memtrace {

// The innermost function that is no library routine: memset and malloc serve others. Where there is none but those, or
// the stack cannot be unwound, the innermost of all.
struct NativePlace {
    std::string module;    // path of its file; "[anonymous]" for code in no file
    std::string function;  // demangled; "function at 0x11f0", an address of the file, where no symbol covers it
    std::string by;        // the library routine that it called, or the library; empty when it changed memory itself
    // Where its return address lies, in bytes from the stack pointer; null where the routine called is its own.
    std::optional<uint32_t> return_address_at;

    auto operator<=>(const NativePlace &) const = default;
};

// One answer a stack, in order; a null where nothing can be said. Empty when the process has gone, or its files broke
// their reader. Takes milliseconds. Files are opened as what is mapped, whatever became of their names.
std::vector<std::optional<NativePlace>> unwind_native_stacks(int pid, const std::vector<mt_native_record> &stacks);

// A module of this name is of the C or C++ runtime, or an allocator in its place.
bool is_runtime_library(const std::string &path);

}  // namespace memtrace
