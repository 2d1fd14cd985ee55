// SPDX-License-Identifier: Apache-2.0
// CPython's own probes, attached to process by process. Where the kernel has uprobe_multi, one link holds all places of
// a process and program; before, there is a perf event for each (collect/uprobes.h).
#pragma once

#include <cstdint>
#include <future>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/file_descriptor.h"
#include "collect/probe_specs.h"
#include "process/find_python.h"

struct bpf_link;
struct bpf_program;
struct memtrace_bpf;

namespace memtrace {

struct UprobePlace;

// What is listened to: a probe, or both ends of something. One BPF program each.
enum class Probed { kLines, kFunctionEntries, kCollections, kImports };

class ProbeLinks {
  public:
    ProbeLinks(const memtrace_bpf &programs, bool empty_line_probe);
    ~ProbeLinks();

    // Of process `pid`, whose interpreter `path` opens; once for a process and interpreter. Empty when it is attached
    // to, else a clause that says why not.
    std::string attach(Probed what, int pid, const FoundPython &python, const std::string &path);
    // The one function of which process `pid` is stopped at its end: its entry, at this offset of the file that `path`
    // opens. In place of the one before. Returns as attach() does.
    std::string attach_function(const bpf_program *program, int pid, const std::string &path, uint64_t offset);
    bool has(Probed what, int pid, const mt_file_id &module) const;
    // Detaches from all processes but these. The kernel lets a link go when no CPU can be in the program any more, 50
    // to 190 ms later: other threads wait for that, and the destructor for them. (Links of perf events are let go here
    // all the same.)
    void keep(const std::set<int> &pids);

  private:
    struct Place {
        const char *probe;
        const UsdtLocation *location;
        uint64_t cookie;
    };
    struct DestroyLink {
        void operator()(bpf_link *link) const;
    };
    struct Attached {
        mt_file_id module{};
        std::vector<ProbeSpecs::Use> specs;
        std::vector<ProbeSpecs::Binding> bindings;
        FileDescriptor multi;
        std::vector<std::unique_ptr<bpf_link, DestroyLink>> perf;
        size_t open_files = 0;
    };

    uint64_t line_site(const FoundPython &python);
    std::string attach_places(const bpf_program *program, int pid, const std::string &path,
                              const std::vector<Place> &places, Attached &attached);
    bool attach_by_perf(const bpf_program *program, int pid, int file, const UprobePlace &place, Attached &attached);
    std::string bind(int pid, const std::vector<Place> &places, Attached &attached);

    void close_leaving();

    const memtrace_bpf &programs_;
    bool empty_line_probe_;
    bool has_multi_;
    size_t open_files_ = 0;
    size_t most_open_files_ = 0;
    std::map<std::pair<uint64_t, uint64_t>, uint64_t> line_sites_;  // by the module's device and inode
    ProbeSpecs specs_;
    std::map<std::pair<int, Probed>, Attached> attached_;  // by pid
    Attached function_;
    std::vector<Attached> detaching_;  // to be closed
    std::vector<Attached> leaving_;    // being closed, by other threads, which detached_ waits for
    std::future<void> detached_;
};

}  // namespace memtrace
