// SPDX-License-Identifier: Apache-2.0
// Which mappings are of memory that processes share, and which of files on a disk. Both may be marked 's' in
// /proc/PID/maps, but only a file's pages can the kernel drop, and read again. Shared memory lies in file systems that
// are memory (tmpfs): mounted ones, or the kernel's own for memfd_create(), System V and anonymous shared mappings.
#pragma once

#include <cstdint>
#include <set>

#include "process/proc_files.h"

namespace memtrace {

// Devices of file systems that are memory, as Mapping::device has them, of those that the process has mounted.
std::set<uint64_t> read_memory_devices(int pid);

bool is_shared_memory(const Mapping &mapping, const std::set<uint64_t> &memory_devices);

}  // namespace memtrace
