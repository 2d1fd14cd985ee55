// SPDX-License-Identifier: Apache-2.0
// Which allocator serves malloc in a process: the C library's, or one that was preloaded or linked in its place. The
// dynamic linker has decided: a module that calls malloc has its address. The module that has this address is the
// allocator's, and its exported names say which one it is; its file's name may be anything.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "memtrace/wire.h"
#include "process/proc_files.h"
#include "process/remote_memory.h"

namespace memtrace {

struct CAllocator {
    std::optional<std::string> name;  // glibc, musl, jemalloc, tcmalloc or mimalloc; null: another one
    std::string module;               // as /proc/PID/maps names it
};

// Asks a module that is mapped `bias` away from where its file says. Null when it does not call malloc, or not by way
// of the dynamic linker.
std::optional<CAllocator> find_c_allocator(int pid, const std::vector<Mapping> &mappings, const mt_file_id &module,
                                           uint64_t bias, const RemoteMemory &memory);

}  // namespace memtrace
