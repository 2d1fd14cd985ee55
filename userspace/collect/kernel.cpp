// SPDX-License-Identifier: Apache-2.0
#include "collect/kernel.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <fmt/core.h>
#include <spdlog/spdlog.h>
#include <sys/mount.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include "base/failure.h"
#include "collect/kernel_types.h"
#include "process/proc_files.h"

namespace memtrace {

namespace {

constexpr const char *kBtfPath = "/sys/kernel/btf/vmlinux";
constexpr const char *kTracefs = "/sys/kernel/tracing";
constexpr const char *kLockdown = "/sys/kernel/security/lockdown";
constexpr const char *kUprobes = "/sys/bus/event_source/devices/uprobe";

// Numbers from linux/capability.h.
enum CapabilityNumber { kDacReadSearch = 2, kPtrace = 19, kSysAdmin = 21, kPerfmon = 38, kBpf = 39, kRestore = 40 };

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

bool has_tracepoints() {
    return access(fmt::format("{}/events/kmem/rss_stat/id", kTracefs).c_str(), R_OK) == 0;
}

bool can_mount_tracefs() {
    return access(kTracefs, F_OK) == 0 && access(fmt::format("{}/events", kTracefs).c_str(), F_OK) != 0 &&
           has_capability(kSysAdmin) &&
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
    std::string release = kernel_release();
    int major = 0, minor = 0;
    sscanf(release.c_str(), "%d.%d", &major, &minor);
    if (std::pair(major, minor) < std::pair(5, 10))
        return not_required(no("release", release, "memtrace is made for Linux 5.10 and later"));
    return not_required(yes("release", release));
}

Check check_btf() {
    if (access(kBtfPath, R_OK) == 0)
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
        return unknown(name, "only with cap_bpf can it be tried", "run memtrace with sudo");
    if (load_error == EPERM || load_error == EACCES)
        return no(name, fmt::format("the kernel refuses to load BPF programs ({})", strerror(load_error)),
                  "a container's seccomp profile or kernel lockdown forbids it; run memtrace on the host");
    return no(name, "the kernel loads no BPF program", strerror(load_error));
}

Check check_tracefs() {
    const char *name = "tracepoints";
    if (has_tracepoints())
        return yes(name, kTracefs);
    if (errno == EACCES)
        return unknown(name, fmt::format("not ours to look at: {}", kTracefs), "run memtrace with sudo");
    if (can_mount_tracefs())
        return yes(name, fmt::format("memtrace will mount tracefs at {}", kTracefs));
    return no(name, fmt::format("tracepoints cannot be read at {}", kTracefs),
              fmt::format("mount tracefs there (mount -t tracefs tracefs {})", kTracefs));
}

Check check_rss_source(bool has_btf) {
    const char *name = "cheap RSS hook";
    if (!has_btf)
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
                                      "the line engine needs Linux 5.11 or later"));
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
    return {check_btf(), check_bpf_call(load_error), check_loading(load_error), check_tracefs(),
            check_ring_buffers(load_error == 0)};
}

void require(const Check &check) {
    if (check.required && check.ok != true)
        fail("{}: {}", check.found, check.remedy);
}

}  // namespace

std::vector<Check> check_kernel() {
    int load_error = try_trivial_program();
    std::vector<Check> checks = check_needs(load_error);
    checks.insert(checks.begin(), check_release());
    for (const Check &check : {check_rss_source(access(kBtfPath, R_OK) == 0), check_task_storage(load_error == 0),
                               check_cookies(load_error == 0), check_registers(load_error == 0), check_probes()})
        checks.push_back(check);
    return checks;
}

std::vector<Check> check_user() {
    std::vector<Check> checks;
    for (const Capability &capability : kCapabilities) {
        if (has_capability(capability.number))
            checks.push_back(yes(capability.name, capability.purpose));
        else
            checks.push_back(
                no(capability.name, fmt::format("needed {}", capability.purpose), "run memtrace with sudo"));
    }
    checks.push_back(check_pid_namespace());
    checks.push_back(check_lockdown());
    return checks;
}

Check check_probes() {
    const char *name = "USDT probes";
    if (access(fmt::format("{}/format/ref_ctr_offset", kUprobes).c_str(), F_OK) == 0)
        return not_required(yes(name, "uprobes, with semaphores"));
    if (access(kUprobes, F_OK) == 0)
        return not_required(
            no(name, "this kernel's uprobes have no semaphores", "the line engine needs Linux 4.20 or later"));
    return not_required(no(name, "this kernel has no uprobes", "the line engine needs CONFIG_UPROBE_EVENTS"));
}

void require_permissions() {
    std::string missing;
    for (const Capability &capability : kCapabilities)
        if (!has_capability(capability.number))
            missing += (missing.empty() ? "" : ", ") + std::string(capability.name);
    if (!missing.empty())
        fail(
            "memtrace must be allowed to load BPF programs and to look into other processes, and lacks {}: run it with "
            "sudo",
            missing);
}

void require_bpf() {
    for (const Check &check : check_user())
        require(check);
    for (const Check &check : check_needs(try_trivial_program()))
        require(check);
    if (has_tracepoints())
        return;
    if (mount("tracefs", kTracefs, "tracefs", 0, nullptr) == 0)
        spdlog::info("mounted tracefs at {}, where it usually is", kTracefs);
    require(check_tracefs());
}

std::string kernel_release() {
    utsname names{};
    uname(&names);
    return names.release;
}

}  // namespace memtrace
