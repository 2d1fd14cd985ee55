// SPDX-License-Identifier: Apache-2.0
// The BPF programs, opened, set up for what will be traced, and loaded: here and nowhere else. The tracer attaches what
// it is given; memtrace doctor only asks whether the kernel takes them.
#pragma once

#include <sys/syscall.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/failure.h"
#include "collect/kernel_types.h"
#include "memtrace/wire.h"

struct memtrace_bpf;

namespace memtrace {

// How the line of a frame is found.
enum class Engine {
    kStack,  // from the frame itself, when memory changes
    kLine,   // from CPython's python:line probe, which every line pays for
};

struct TracerSettings {
    RssSource source = RssSource::kBtf;
    Engine engine = Engine::kStack;
    bool follow_children = true;
    bool imports = false;           // attach to the probes of imports
    bool function_calls = false;    // attach to the probe of calls
    bool owners = false;            // tell who made each page resident
    bool empty_line_probe = false;  // attach an empty program to python:line, for measuring; with kLine only
};

// The system calls whose entries and exits are looked at.
struct TracedCall {
    mt_call call;
    uint32_t number;
};
inline constexpr TracedCall kTracedCalls[] = {
    {MT_CALL_BRK, SYS_brk},       {MT_CALL_MMAP, SYS_mmap},       {MT_CALL_MUNMAP, SYS_munmap},
    {MT_CALL_MREMAP, SYS_mremap}, {MT_CALL_MADVISE, SYS_madvise},
};

struct DestroyPrograms {
    void operator()(memtrace_bpf *programs) const;
};
using Programs = std::unique_ptr<memtrace_bpf, DestroyPrograms>;

// The kernel does not load what memtrace has for it.
struct LoadRefusal : Failure {
    LoadRefusal(const std::string &what, const std::string &what_to_do)
        : Failure(kExitFailure, what + "; " + what_to_do), found(what), remedy(what_to_do) {}

    std::string found;  // with the kernel's own last words
    std::string remedy;
};

// Whether pages copied on write are told of, when whose they are is.
bool counts_copies(bool owners);

// Throws LoadRefusal.
Programs load_programs(const TracerSettings &settings);

// Pure: of what libbpf has said while loading failed, the words that tell why. `messages` in order, one a warning.
std::string why_not_loaded(const std::vector<std::string> &messages);

}  // namespace memtrace
