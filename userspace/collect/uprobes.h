// SPDX-License-Identifier: Apache-2.0
// How a BPF program is attached to places in a process's own code. The kernel has two ways:
//
//   uprobe_multi   Linux 6.6 and later: one link for all places of a process, for whoever may load the program
//   perf events    before: one for each place; and from the fix of CVE-2025-38466 on (6.1.146, 6.12.39 and others) only
//                  for cap_sys_admin
//
// libbpf's own ways read the file as an ELF file, which is the process's to forge, with our rights: so they are not
// used.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/file_descriptor.h"

namespace memtrace {

// BPF_TRACE_UPROBE_MULTI (linux/bpf.h, from 6.6 on): what a program is loaded for that is to be attached in the first
// way.
inline constexpr int kUprobeMulti = 48;

// Whether the kernel has it, and means a process by a pid, not a thread. This user must be allowed to load programs.
bool has_uprobe_multi();

// Why this user cannot attach in the second way; empty when it can.
std::string perf_uprobes_refusal();

struct UprobePlace {
    uint64_t offset = 0;            // in the file
    uint64_t semaphore_offset = 0;  // of a counter that is above 0 while someone listens; 0: none
    uint64_t cookie = 0;            // told to the program
};

// Attaches to these places, in their order, in process `pid` only, wherever it maps the file that is open as `file`.
// The link lasts while it is open. Not a file, with errno, when the kernel refuses.
FileDescriptor attach_uprobe_multi(int program, int file, int pid, const std::vector<UprobePlace> &places);

// The same for one place, by a perf event; the program, and its cookie, are yet to be attached to it.
FileDescriptor open_uprobe_event(int file, int pid, const UprobePlace &place);

}  // namespace memtrace
