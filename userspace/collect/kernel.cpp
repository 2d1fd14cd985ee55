// SPDX-License-Identifier: Apache-2.0
#include "collect/kernel.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <fcntl.h>
#include <fmt/core.h>
#include <linux/perf_event.h>
#include <spdlog/spdlog.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include "base/failure.h"
#include "base/file_descriptor.h"
#include "collect/kernel_types.h"
#include "collect/programs.h"
#include "collect/uprobes.h"
#include "process/proc_files.h"

namespace memtrace {

namespace {

constexpr const char *kBtfPath = "/sys/kernel/btf/vmlinux";
constexpr const char *kTracefs = "/sys/kernel/tracing";
constexpr const char *kTracepointId = "/sys/kernel/tracing/events/kmem/rss_stat/id";
constexpr const char *kLockdown = "/sys/kernel/security/lockdown";

// Numbers from linux/capability.h.
enum CapabilityNumber {
    kDacReadSearch = 2,
    kPtrace = 19,
    kSysAdmin = 21,
    kResource = 24,
    kPerfmon = 38,
    kBpf = 39,
    kRestore = 40
};

// Said wherever rights are missing.
constexpr const char *kGetRights = "run memtrace with sudo, or with the capabilities that memtrace doctor lists";
constexpr const char *kAddRight = "run memtrace with sudo, or add it (setcap(8), or AmbientCapabilities= of a service)";

struct Capability {
    CapabilityNumber number;
    const char *name;
    const char *purpose;
};
constexpr Capability kCapabilities[] = {
    {kBpf, "cap_bpf", "to load BPF programs"},
    {kPerfmon, "cap_perfmon", "to let them read the kernel and attach them"},
    {kPtrace, "cap_sys_ptrace", "to look into other processes"},
    {kRestore, "cap_checkpoint_restore", "to open the files that a process maps"},
    {kDacReadSearch, "cap_dac_read_search", "to read what belongs to others"},
};

bool has_capability(CapabilityNumber number) {
    std::string status = read_whole_file("/proc/self/status").value_or("");
    size_t at = status.find("CapEff:");
    uint64_t have = at == std::string::npos ? 0 : std::stoull(status.substr(at + 7), nullptr, 16);
    // The three newest were split from cap_sys_admin, which still stands for them.
    return have >> number & 1 || (number >= kPerfmon && have >> kSysAdmin & 1);
}

// access(2) would ask what the user may who has started us, not what we may by our capabilities.
bool can_read(const char *path) {
    return bool(FileDescriptor(open(path, O_RDONLY | O_CLOEXEC)));
}

bool has_tracepoints() {
    return can_read(kTracepointId);
}

// Whether this user may open such an event on a processor. False with errno.
bool try_perf_event(uint32_t type, uint64_t config) {
    perf_event_attr attributes{};
    attributes.size = sizeof(attributes);
    attributes.type = type;
    attributes.config = config;
    return bool(FileDescriptor(static_cast<int>(syscall(SYS_perf_event_open, &attributes, -1, 0, -1, 0))));
}

bool try_tracepoint() {
    return try_perf_event(PERF_TYPE_TRACEPOINT,
                          std::strtoull(read_whole_file(kTracepointId).value_or("").c_str(), nullptr, 10));
}

bool can_mount_tracefs() {
    struct stat status;
    return stat(kTracefs, &status) == 0 && stat(fmt::format("{}/events", kTracefs).c_str(), &status) != 0 &&
           errno == ENOENT && has_capability(kSysAdmin) &&
           read_whole_file("/proc/filesystems").value_or("").find("\ttracefs\n") != std::string::npos;
}

// A program of two instructions, "return 0": does the kernel load any program at all?
int try_trivial_program() {
    const bpf_insn program[] = {
        {.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .src_reg = 0, .off = 0, .imm = 0},
        {.code = BPF_JMP | BPF_EXIT, .dst_reg = 0, .src_reg = 0, .off = 0, .imm = 0},
    };
    int fd = bpf_prog_load(BPF_PROG_TYPE_TRACEPOINT, "mt_probe", "Dual BSD/GPL", program, std::size(program), nullptr);
    if (fd < 0)
        return errno;
    close(fd);
    return 0;
}

Check yes(std::string name, std::string found) {
    return {std::move(name), true, true, std::move(found), ""};
}

Check no(std::string name, std::string found, std::string remedy) {
    return {std::move(name), false, true, std::move(found), std::move(remedy)};
}

Check unknown(std::string name, std::string found, std::string remedy) {
    return {std::move(name), std::nullopt, true, std::move(found), std::move(remedy)};
}

Check not_required(Check check) {
    check.required = false;
    return check;
}

Check check_release() {
    if (kernel_is_before(5, 10))
        return not_required(no("release", kernel_release(), "memtrace is made for Linux 5.10 and later"));
    return not_required(yes("release", kernel_release()));
}

Check check_btf() {
    if (can_read(kBtfPath))
        return yes("BTF", kBtfPath);
    return no(
        "BTF", fmt::format("this kernel ({}) offers no BTF at {}", kernel_release(), kBtfPath),
        "memtrace needs a kernel built with CONFIG_DEBUG_INFO_BTF, as those of Debian 11, Ubuntu 20.10, Fedora 31 "
        "and later are");
}

Check check_bpf_call(int load_error) {
    if (load_error != ENOSYS)
        return yes("bpf system call", "there is one");
    return no("bpf system call", fmt::format("this kernel ({}) has no bpf system call", kernel_release()),
              "memtrace needs CONFIG_BPF_SYSCALL");
}

Check check_loading(int load_error) {
    const char *name = "BPF programs";
    if (!load_error)
        return yes(name, "the kernel loads them");
    if (load_error == EPERM && !has_capability(kBpf))
        return unknown(name, "only with cap_bpf can it be tried", kGetRights);
    if (load_error == EPERM || load_error == EACCES)
        return no(name, fmt::format("the kernel refuses to load BPF programs ({})", strerror(load_error)),
                  "a container's seccomp profile or kernel lockdown forbids it; run memtrace on the host");
    return no(name, "the kernel loads no BPF program", strerror(load_error));
}

// Perf events have been refused, with this errno.
Check perf_event_refusal(const char *name, int error) {
    if (!has_capability(kPerfmon))
        return unknown(name, "only with cap_perfmon can it be tried", kGetRights);
    // Debian's and Ubuntu's kernels know a level of their own, and start with it.
    if (std::atoi(read_whole_file("/proc/sys/kernel/perf_event_paranoid").value_or("").c_str()) > 2 &&
        !has_capability(kSysAdmin))
        return no(name, "kernel.perf_event_paranoid is above 2: this kernel keeps perf events for cap_sys_admin then",
                  "sysctl kernel.perf_event_paranoid=2, or run memtrace as root");
    return no(name, fmt::format("the kernel opens no perf event ({})", strerror(error)),
              "a container's seccomp profile forbids perf_event_open; run memtrace on the host");
}

// What --rss-source classic attaches to, which is also what is left where the kernel's types do not fit.
Check check_tracefs() {
    const char *name = "tracepoints";
    if (has_tracepoints())
        return try_tracepoint() ? yes(name, kTracefs) : perf_event_refusal(name, errno);
    if (errno == EACCES)
        return unknown(name, fmt::format("not ours to look at: {}", kTracefs), kGetRights);
    if (can_mount_tracefs())
        return yes(name, fmt::format("memtrace mounts tracefs at {} for --rss-source classic", kTracefs));
    return no(name, fmt::format("tracepoints cannot be read at {}", kTracefs),
              fmt::format("mount tracefs there (mount -t tracefs tracefs {})", kTracefs));
}

// Where no tracepoint tells of page faults.
Check check_fault_events() {
    const char *name = "page faults";
    if (!can_read(kBtfPath))
        return not_required(unknown(name, "not known without BTF", ""));
    if (kernel_types().fault_tracepoints)
        return not_required(yes(name, "tp_btf/page_fault_user, tp_btf/page_fault_kernel"));
    Check check = try_perf_event(PERF_TYPE_SOFTWARE, PERF_COUNT_SW_PAGE_FAULTS)
                      ? yes(name, "the software event page-faults")
                      : perf_event_refusal(name, errno);
    check.required = kernel_types().threads_keep_counts;
    return check;
}

Check check_rss_source() {
    const char *name = "cheap RSS hook";
    if (!can_read(kBtfPath))
        return not_required(unknown(name, "not known without BTF", ""));
    RssSource source = kernel_types().rss_source;
    if (source != RssSource::kClassic)
        return not_required(yes(name, name_of(source)));
    return not_required(no(name, fmt::format("{} instead, which sums all CPUs at each event", name_of(source)),
                           "both give the same bytes"));
}

// What libbpf's probes say: 1, 0, or a negative error; they need to be allowed to load programs.
Check check_feature(const char *name, int probed, const char *found, const std::string &lacking, const char *remedy) {
    if (probed < 0)
        return unknown(name, "not known: no BPF program can be loaded", "");
    return probed ? yes(name, found) : no(name, lacking, remedy);
}

Check check_ring_buffers(bool loads) {
    int probed = loads ? libbpf_probe_bpf_map_type(BPF_MAP_TYPE_RINGBUF, nullptr) : -EPERM;
    return check_feature("ring buffers", probed, "BPF_MAP_TYPE_RINGBUF",
                         fmt::format("this kernel ({}) has no BPF ring buffers", kernel_release()),
                         "memtrace needs Linux 5.8 or later");
}

Check check_task_storage(bool loads) {
    int probed = loads ? libbpf_probe_bpf_map_type(BPF_MAP_TYPE_TASK_STORAGE, nullptr) : -EPERM;
    return not_required(check_feature("task storage", probed, "BPF_MAP_TYPE_TASK_STORAGE", "this kernel has none",
                                      "the line engine needs Linux 5.13 or later"));
}

Check check_cookies(bool loads) {
    int probed = loads ? libbpf_probe_bpf_helper(BPF_PROG_TYPE_KPROBE, BPF_FUNC_get_attach_cookie, nullptr) : -EPERM;
    return not_required(check_feature("attach cookies", probed, "bpf_get_attach_cookie", "this kernel has none",
                                      "memtrace does without; Linux 5.15 and later have them"));
}

Check check_registers(bool loads) {
    int probed = loads ? libbpf_probe_bpf_helper(BPF_PROG_TYPE_TRACEPOINT, BPF_FUNC_task_pt_regs, nullptr) : -EPERM;
    return not_required(check_feature("user registers", probed, "bpf_task_pt_regs",
                                      "this kernel does not give them to tracepoint programs",
                                      "native functions are not named; Linux 5.15 and later have them"));
}

// Before Linux 5.11 BPF maps are memory that is locked, of which an ordinary user may have some KiB.
bool is_memory_limited() {
    rlimit limit{};
    getrlimit(RLIMIT_MEMLOCK, &limit);
    return kernel_is_before(5, 11) && limit.rlim_max != RLIM_INFINITY && !has_capability(kResource);
}

// What may be asked for on top of plain tracing.
struct Choice {
    const char *option;
    const char *instead;
    void (*choose)(TracerSettings &);
};
constexpr Choice kChoices[] = {
    {"--owners", "leave out --owners", [](TracerSettings &settings) { settings.owners = true; }},
    {"--engine line", "the stack engine, without it, gives the same bytes",
     [](TracerSettings &settings) { settings.engine = Engine::kLine; }},
    {"--calls", "leave out --calls", [](TracerSettings &settings) { settings.function_calls = true; }},
    {"--imports", "leave out --imports", [](TracerSettings &settings) { settings.imports = true; }},
};

// Whether the kernel loads the programs of these settings.
Check check_load(const char *name, const TracerSettings &settings) {
    try {
        load_programs(settings);
        return yes(name, "the kernel loads its programs");
    } catch (const LoadRefusal &refusal) {
        return no(name, refusal.found, refusal.remedy);
    } catch (const Failure &failure) {
        return no(name, failure.what(), "");
    }
}

std::vector<Check> check_loads(bool is_ready) {
    const char *name = "tracing", *why_not = "not tried, for the reasons above";
    std::vector<Check> checks;
    if (!is_ready) {
        checks.push_back(not_required(unknown(name, why_not, "")));
        for (const Choice &choice : kChoices)
            checks.push_back(not_required(unknown(choice.option, why_not, "")));
        return checks;
    }
    TracerSettings plain;
    plain.source = kernel_types().rss_source;
    checks.push_back(check_load(name, plain));
    // All at once, which takes a third of the time; one by one where that is refused.
    TracerSettings all = plain;
    for (const Choice &choice : kChoices)
        choice.choose(all);
    Check together = check_load(name, all);
    for (const Choice &choice : kChoices) {
        TracerSettings one = plain;
        choice.choose(one);
        Check check = together.ok == true ? together : check_load(choice.option, one);
        if (Check faults = check_fault_events(); check.ok == true && one.owners && faults.ok != true)
            check = faults;
        check.name = choice.option;
        if (check.ok != true)
            check.remedy = choice.instead;
        checks.push_back(not_required(check));
    }
    return checks;
}

// The BPF programs see the host's process numbers. 0xeffffffc is its PID namespace (PROC_PID_INIT_INO,
// linux/proc_ns.h).
Check check_pid_namespace() {
    const char *name = "PID namespace";
    char link[64];
    ssize_t n = readlink("/proc/self/ns/pid", link, sizeof(link));
    if (n <= 0)
        return not_required(unknown(name, "/proc/self/ns/pid cannot be read", ""));
    if (std::string(link, static_cast<size_t>(n)) != fmt::format("pid:[{}]", 0xeffffffcu))
        return no(name, "memtrace runs inside a container's PID namespace, and must run in the host's",
                  "there it sees the container's processes too");
    return yes(name, "the host's");
}

// From "none [integrity] confidentiality"; the last keeps BPF programs from reading the kernel's memory
// (LOCKDOWN_BPF_READ_KERNEL, linux/security.h).
Check check_lockdown() {
    auto text = read_whole_file(kLockdown);
    if (!text)
        return not_required(unknown("lockdown", fmt::format("{} cannot be read", kLockdown), ""));
    if (text->find("[confidentiality]") != std::string::npos)
        return no("lockdown", "kernel lockdown (confidentiality) keeps BPF programs from reading the kernel's memory",
                  "boot with lockdown=integrity, or with none");
    return yes("lockdown",
               text->find("[integrity]") == std::string::npos ? "none" : "integrity, which is no hindrance");
}

// Without these nothing can be traced.
std::vector<Check> check_needs(int load_error) {
    libbpf_set_print(nullptr);  // a probe that fails is an answer
    return {check_btf(), check_bpf_call(load_error), check_loading(load_error), check_ring_buffers(load_error == 0),
            check_fault_events()};
}

void require(const Check &check) {
    if (check.required && check.ok != true)
        fail("{}: {}", check.found, check.remedy);
}

}  // namespace

std::vector<Check> check_kernel() {
    int load_error = try_trivial_program();
    std::vector<Check> checks = check_needs(load_error);
    Check tracefs = check_tracefs();
    tracefs.required = kernel_types().rss_source == RssSource::kClassic;
    if (!tracefs.required && tracefs.ok != true)
        tracefs.remedy += "; it is for --rss-source classic only";
    checks.push_back(tracefs);
    bool is_ready = std::none_of(checks.begin(), checks.end(),
                                 [](const Check &check) { return check.required && check.ok != true; });
    checks.insert(checks.begin(), check_release());
    for (const Check &check : {check_rss_source(), check_task_storage(load_error == 0), check_cookies(load_error == 0),
                               check_registers(load_error == 0), check_probes()})
        checks.push_back(check);
    for (Check &check : check_loads(is_ready))
        checks.push_back(std::move(check));
    return checks;
}

std::vector<Check> check_user() {
    std::vector<Check> checks;
    for (const Capability &capability : kCapabilities) {
        if (has_capability(capability.number))
            checks.push_back(yes(capability.name, capability.purpose));
        else
            checks.push_back(no(capability.name, fmt::format("needed {}", capability.purpose), kAddRight));
    }
    if (is_memory_limited())
        checks.push_back(
            no("cap_sys_resource", "needed to lock memory for BPF maps, before Linux 5.11",
               "run memtrace with sudo, add it, or raise the limit of locked memory (ulimit -l unlimited)"));
    checks.push_back(check_pid_namespace());
    checks.push_back(check_lockdown());
    return checks;
}

Check check_probes() {
    const char *name = "USDT probes";
    if (has_uprobe_multi())
        return not_required(yes(name, "uprobe_multi"));
    std::string refusal = perf_uprobes_refusal();
    if (refusal.empty())
        return not_required(yes(name, "a perf event each, with semaphores"));
    if (!has_capability(kBpf) || !has_capability(kPerfmon))
        return not_required(unknown(name, "only with cap_bpf and cap_perfmon can it be tried", kGetRights));
    const char *without =
        "without probes garbage collections are not counted, and there is no --engine line, --calls or --imports";
    return not_required(
        no(name, refusal, has_capability(kSysAdmin) ? without : fmt::format("run memtrace with sudo: {}", without)));
}

void require_permissions() {
    std::string missing;
    for (const Capability &capability : kCapabilities)
        if (!has_capability(capability.number))
            missing += (missing.empty() ? "" : ", ") + std::string(capability.name);
    if (!missing.empty())
        fail("memtrace must be allowed to load BPF programs and to look into other processes, and lacks {}: {}",
             missing, kGetRights);
}

void require_bpf(RssSource source) {
    for (const Check &check : check_user())
        require(check);
    for (const Check &check : check_needs(try_trivial_program()))
        require(check);
    if (source != RssSource::kClassic)
        return;
    if (!has_tracepoints() && mount("tracefs", kTracefs, "tracefs", 0, nullptr) == 0)
        spdlog::info("mounted tracefs at {}, where it usually is", kTracefs);
    require(check_tracefs());
}

bool kernel_is_before(int major, int minor) {
    int our_major = 0, our_minor = 0;
    sscanf(kernel_release().c_str(), "%d.%d", &our_major, &our_minor);
    return std::pair(our_major, our_minor) < std::pair(major, minor);
}

std::string kernel_release() {
    utsname names{};
    uname(&names);
    return names.release;
}

}  // namespace memtrace
