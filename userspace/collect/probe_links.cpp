// SPDX-License-Identifier: Apache-2.0
#include "collect/probe_links.h"

#include <bpf/libbpf.h>
#include <elf.h>
#include <fcntl.h>
#include <fmt/core.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <string_view>
#include <system_error>
#include <thread>

#include "collect/uprobes.h"
#include "memtrace.skel.h"

namespace memtrace {

using namespace std::chrono_literals;

namespace {

// For maps, programs, hooks, sources of many processes, and children's own files.
constexpr rlim_t kOtherFiles = 768;
constexpr rlim_t kMostFiles = 8192;
// They do nothing but wait.
constexpr size_t kDetachingThreads = 32;

struct Listened {
    const char *probe;
    size_t arguments;  // that the program reads
    uint64_t cookie = 0;
};

// The end first: what is counted is that of which both ends were seen.
std::vector<Listened> listened_to(Probed what) {
    switch (what) {
        case Probed::kLines:
            return {{"line", 3}};
        case Probed::kFunctionEntries:
            return {{"function__entry", 3}};
        case Probed::kCollections:
            return {{"gc__done", 1, MT_PROBE_DONE}, {"gc__start", 1, MT_PROBE_START}};
        case Probed::kImports:
            return {{"import__find__load__done", 2, MT_PROBE_DONE}, {"import__find__load__start", 1, MT_PROBE_START}};
    }
    return {};
}

const bpf_program *program_of(const memtrace_bpf &programs, Probed what, bool empty_line_probe) {
    switch (what) {
        case Probed::kLines:
            return empty_line_probe ? programs.progs.on_line_empty : programs.progs.on_line;
        case Probed::kFunctionEntries:
            return programs.progs.on_function_entry;
        case Probed::kCollections:
            return programs.progs.on_gc;
        case Probed::kImports:
            return programs.progs.on_import;
    }
    return nullptr;
}

// The path may open another file by now than the one whose notes were read, after an exec for one: a breakpoint would
// break that program.
bool are_probe_places(int file, const std::vector<UprobePlace> &places) {
#ifdef __aarch64__
    constexpr int kMachine = EM_AARCH64;
#else
    constexpr int kMachine = EM_X86_64;
#endif
    return std::all_of(places.begin(), places.end(), [file](const UprobePlace &place) {
        std::array<uint8_t, 5> code{};
        return pread(file, code.data(), code.size(), static_cast<off_t>(place.offset)) == ssize_t{code.size()} &&
               is_no_op(code, kMachine);
    });
}

// How many files may be open for probes. Of ours only, for a command that is run has been forked already.
size_t raise_open_files() {
    rlimit limit{};
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = std::max(limit.rlim_cur, std::min(limit.rlim_max, kMostFiles));
    setrlimit(RLIMIT_NOFILE, &limit);
    return limit.rlim_cur > kOtherFiles ? limit.rlim_cur - kOtherFiles : 0;
}

std::string describe_error(const std::string &place, int error) {
    if (error == ESRCH || error == ENOENT)  // nor has it a file in /proc
        return "the process ended before memtrace could attach to it";
    return fmt::format("{} cannot be attached to: {}", place, strerror(error));
}

std::string name_of(const char *probe) {
    return fmt::format("its probe python:{}", probe);
}

std::string describe_perf_error(const std::string &place, int error) {
    std::string refusal = error == EACCES || error == EPERM ? perf_uprobes_refusal() : "";
    return refusal.empty() ? describe_error(place, error) : refusal;
}

}  // namespace

ProbeLinks::ProbeLinks(const memtrace_bpf &programs, bool empty_line_probe)
    : programs_(programs),
      empty_line_probe_(empty_line_probe),
      has_multi_(bpf_program__expected_attach_type(programs.progs.on_gc) == kUprobeMulti),
      most_open_files_(raise_open_files()),
      specs_(programs.maps.__bpf_usdt_specs) {}

ProbeLinks::~ProbeLinks() {
    if (detached_.valid())
        detached_.wait();
    keep({});
}

void ProbeLinks::DestroyLink::operator()(bpf_link *link) const {
    bpf_link__destroy(link);
}

std::string ProbeLinks::attach(Probed what, int pid, const FoundPython &python, const std::string &path) {
    if (has(what, pid, python.file))
        return "";
    std::vector<Place> places;
    for (const Listened &listened : listened_to(what)) {
        std::string refusal = probe_refusal(python.probes, listened.probe);
        if (!refusal.empty())
            return refusal;
        for (const UsdtLocation &location : find_probe(*python.probes, listened.probe)->locations) {
            if (!location.arguments || location.arguments->size() < listened.arguments)
                return fmt::format("its probe python:{} has arguments that memtrace cannot read", listened.probe);
            places.push_back({listened.probe, &location, listened.cookie});
        }
    }
    if (what == Probed::kLines)
        for (Place &place : places)
            place.cookie = line_site(python);
    Attached attached;
    attached.module = python.file;
    attached.open_files = has_multi_ ? 1 : 2 * places.size();
    if (open_files_ + attached.open_files > most_open_files_)
        return "memtrace listens to as many processes as its limit of open files allows (ulimit -n)";
    const bpf_program *program = program_of(programs_, what, empty_line_probe_);
    std::string refusal = has_multi_ ? attach_multi(program, pid, path, places, attached)
                                     : attach_by_perf(program, pid, path, places, attached);
    if (!refusal.empty())
        return refusal;
    open_files_ += attached.open_files;
    Attached &before = attached_[{pid, what}];  // of another interpreter, before an exec
    if (before.open_files)
        detaching_.push_back(std::exchange(before, {}));
    before = std::move(attached);
    return "";
}

// Which row of line_sites learns where this interpreter has its frame; 0, which never learns, where there is more than
// one place, or no more room.
uint64_t ProbeLinks::line_site(const FoundPython &python) {
    std::pair file{python.file.device, python.file.inode};
    if (find_probe(*python.probes, "line")->locations.size() == 1 && line_sites_.size() + 1 < MT_SITES)
        line_sites_.emplace(file, line_sites_.size() + 1);
    auto site = line_sites_.find(file);
    return site == line_sites_.end() ? 0 : site->second;
}

std::string ProbeLinks::attach_multi(const bpf_program *program, int pid, const std::string &path,
                                     const std::vector<Place> &places, Attached &attached) {
    std::vector<UprobePlace> uprobes;
    for (const Place &place : places) {
        ProbeSpecs::Use spec = specs_.use(*place.location->arguments, place.cookie);
        if (!spec)
            return "memtrace knows as many kinds of probes already as it has room for";
        uprobes.push_back({place.location->offset, place.location->semaphore_offset, *spec});
        attached.specs.push_back(std::move(spec));
    }
    FileDescriptor file(open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (file && !are_probe_places(file.get(), uprobes))
        return "the process has become another program meanwhile";
    if (file)
        attached.multi = attach_uprobe_multi(bpf_program__fd(program), file.get(), pid, uprobes);
    return attached.multi ? "" : describe_error(name_of(places.front().probe), errno);
}

// libbpf finds all places of a probe itself.
std::string ProbeLinks::attach_by_perf(const bpf_program *program, int pid, const std::string &path,
                                       const std::vector<Place> &places, Attached &attached) {
    const char *done = "";
    for (const Place &place : places) {
        if (std::string_view(place.probe) == done)
            continue;
        done = place.probe;
        bpf_usdt_opts options{};
        options.sz = sizeof(options);
        options.usdt_cookie = place.cookie;
        bpf_link *link = bpf_program__attach_usdt(program, pid, path.c_str(), "python", place.probe, &options);
        if (!link) {
            int error = errno;
            return describe_perf_error(name_of(place.probe), error);
        }
        attached.perf.emplace_back(link);
    }
    return "";
}

std::string ProbeLinks::attach_function(const bpf_program *program, int pid, const std::string &path, uint64_t offset) {
    const std::string kPlace = "the function that CPython calls then";
    function_ = {};
    if (has_multi_) {
        if (FileDescriptor file(open(path.c_str(), O_PATH | O_CLOEXEC)); file)
            function_.multi = attach_uprobe_multi(bpf_program__fd(program), file.get(), pid, {{.offset = offset}});
        return function_.multi ? "" : describe_error(kPlace, errno);
    }
    bpf_link *link = bpf_program__attach_uprobe(program, false, pid, path.c_str(), offset);
    if (!link)
        return describe_perf_error(kPlace, errno);
    function_.perf.emplace_back(link);
    return "";
}

bool ProbeLinks::has(Probed what, int pid, const mt_file_id &module) const {
    auto found = attached_.find({pid, what});
    return found != attached_.end() && found->second.module.device == module.device &&
           found->second.module.inode == module.inode;
}

void ProbeLinks::keep(const std::set<int> &pids) {
    for (auto it = attached_.begin(); it != attached_.end();) {
        if (pids.contains(it->first.first)) {
            ++it;
            continue;
        }
        detaching_.push_back(std::move(it->second));
        it = attached_.erase(it);
    }
    if (detached_.valid() && detached_.wait_for(0s) != std::future_status::ready)
        return;
    for (const Attached &attached : leaving_)
        open_files_ -= attached.open_files;
    leaving_ = std::exchange(detaching_, {});
    detached_ = {};
    if (leaving_.empty())
        return;
    try {
        detached_ = std::async(std::launch::async, [this] { close_leaving(); });
    } catch (const std::system_error &) {
        // No thread is to be had: what leaves is closed here, the next time.
    }
}

// The specs stay: they are the main thread's to drop, when no program can ask for them any more.
void ProbeLinks::close_leaving() {
    std::atomic<size_t> next = 0;
    auto close_some = [&] {
        for (size_t i; (i = next++) < leaving_.size();)
            leaving_[i].multi.reset();
    };
    std::vector<std::jthread> threads;
    while (threads.size() < std::min(leaving_.size(), kDetachingThreads))
        threads.emplace_back(close_some);
}

}  // namespace memtrace
