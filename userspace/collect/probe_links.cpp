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
#include "process/mounts.h"
#include "process/proc_files.h"
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

const char *const kServedByAUser =
    "its file lies in a file system that a user's program serves (FUSE), and which could hold memtrace while it "
    "attaches";

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
      specs_(programs.maps.__bpf_usdt_specs, programs.maps.__bpf_usdt_ip_to_spec_id) {}

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
    if (is_served_by_a_user(pid, python.file.device))
        return kServedByAUser;
    if (std::string refusal = attach_places(program, pid, path, places, attached); !refusal.empty())
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

std::string ProbeLinks::attach_places(const bpf_program *program, int pid, const std::string &path,
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
    if (!file)
        return describe_error(name_of(places.front().probe), errno);
    if (!are_probe_places(file.get(), uprobes))
        return "the process has become another program meanwhile";
    if (has_multi_) {
        attached.multi = attach_uprobe_multi(bpf_program__fd(program), file.get(), pid, uprobes);
        return attached.multi ? "" : describe_error(name_of(places.front().probe), errno);
    }
    if (!programs_.kconfig->LINUX_HAS_BPF_COOKIE)
        if (std::string refusal = bind(pid, places, attached); !refusal.empty())
            return refusal;
    for (size_t i = 0; i < places.size(); i++) {
        if (!attached.bindings.empty())
            uprobes[i].cookie = 0;
        if (!attach_by_perf(program, pid, file.get(), uprobes[i], attached))
            return describe_perf_error(name_of(places[i].probe), errno);
    }
    return "";
}

// Programs that are told of no cookie know a probe by its address in the process.
std::string ProbeLinks::bind(int pid, const std::vector<Place> &places, Attached &attached) {
    auto mappings = read_mappings(pid).value_or(std::vector<Mapping>());
    for (size_t i = 0; i < places.size(); i++) {
        uint64_t offset = places[i].location->offset;
        auto mapping = std::find_if(mappings.begin(), mappings.end(), [&](const Mapping &mapped) {
            return mapped.inode == attached.module.inode && mapped.device == attached.module.device &&
                   mapped.permissions()[2] == 'x' && offset >= mapped.offset &&
                   offset - mapped.offset < mapped.end - mapped.start;
        });
        if (mapping == mappings.end())
            return fmt::format("{} is not mapped yet", name_of(places[i].probe));
        attached.bindings.push_back(specs_.bind(mapping->start + (offset - mapping->offset), attached.specs[i]));
        if (!attached.bindings.back())
            return fmt::format(
                "{} has the address of another process's, and this kernel tells them apart by nothing else",
                name_of(places[i].probe));
    }
    return "";
}

// False, and errno says why, when the kernel refuses.
bool ProbeLinks::attach_by_perf(const bpf_program *program, int pid, int file, const UprobePlace &place,
                                Attached &attached) {
    FileDescriptor event = open_uprobe_event(file, pid, place);
    bpf_perf_event_opts options{};
    options.sz = sizeof(options);
    options.bpf_cookie = place.cookie;
    bpf_link *link = event ? bpf_program__attach_perf_event_opts(program, event.get(), &options) : nullptr;
    if (!link)
        return false;
    event.release();  // the link closes it
    attached.perf.emplace_back(link);
    return true;
}

std::string ProbeLinks::attach_function(const bpf_program *program, int pid, const std::string &path, uint64_t offset) {
    const std::string kPlace = "the function that CPython calls then";
    function_ = {};
    FileDescriptor file(open(path.c_str(), O_PATH | O_CLOEXEC));
    if (!file)
        return describe_error(kPlace, errno);
    if (!has_multi_)
        return attach_by_perf(program, pid, file.get(), {.offset = offset}, function_)
                   ? ""
                   : describe_perf_error(kPlace, errno);
    function_.multi = attach_uprobe_multi(bpf_program__fd(program), file.get(), pid, {{.offset = offset}});
    return function_.multi ? "" : describe_error(kPlace, errno);
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
