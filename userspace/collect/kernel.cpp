// SPDX-License-Identifier: Apache-2.0
#include "collect/kernel.h"

#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <fmt/core.h>
#include <spdlog/spdlog.h>
#include <sys/mount.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include "base/failure.h"
#include "process/proc_files.h"

namespace memtrace {

namespace {

constexpr const char *kBtfPath = "/sys/kernel/btf/vmlinux";
constexpr const char *kTracefs = "/sys/kernel/tracing";

uint64_t effective_capabilities() {
    std::string status = read_whole_file("/proc/self/status").value_or("");
    size_t at = status.find("CapEff:");
    return at == std::string::npos ? 0 : std::stoull(status.substr(at + 7), nullptr, 16);
}

bool has_tracepoints() {
    return access(fmt::format("{}/events/kmem/rss_stat/id", kTracefs).c_str(), R_OK) == 0;
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

}  // namespace

void require_permissions() {
    // Numbers from linux/capability.h.
    const std::vector<std::pair<int, const char *>> needed = {
        {39, "cap_bpf"},
        {38, "cap_perfmon"},
        {19, "cap_sys_ptrace"},
        {40, "cap_checkpoint_restore"},
        {2, "cap_dac_read_search"},
    };
    constexpr int kSysAdmin = 21;
    uint64_t have = effective_capabilities();
    std::string missing;
    for (auto [number, name] : needed) {
        bool implied = have >> kSysAdmin & 1 && (number == 39 || number == 38 || number == 40);
        if (!(have >> number & 1) && !implied)
            missing += (missing.empty() ? "" : ", ") + std::string(name);
    }
    if (!missing.empty())
        fail(
            "memtrace must be allowed to load BPF programs and to look into other processes, and lacks {}: run it with "
            "sudo",
            missing);
}

void require_bpf() {
    // The BPF programs see the host's process numbers. 0xeffffffc is its PID namespace (PROC_PID_INIT_INO,
    // linux/proc_ns.h).
    char name[64];
    ssize_t n = readlink("/proc/self/ns/pid", name, sizeof(name));
    if (n > 0 && std::string(name, static_cast<size_t>(n)) != fmt::format("pid:[{}]", 0xeffffffcu))
        fail(
            "memtrace runs inside a container's PID namespace, and must run in the host's: there it sees the "
            "container's "
            "processes too");
    if (access(kBtfPath, R_OK) != 0)
        fail(
            "this kernel ({}) offers no BTF at {}: memtrace needs a kernel built with CONFIG_DEBUG_INFO_BTF, as those "
            "of "
            "Debian 11, Ubuntu 20.10, Fedora 31 and later are",
            kernel_release(), kBtfPath);
    int error = try_trivial_program();
    if (error == ENOSYS)
        fail("this kernel ({}) has no bpf system call: memtrace needs CONFIG_BPF_SYSCALL", kernel_release());
    if (error == EPERM || error == EACCES)
        fail(
            "the kernel refuses to load BPF programs ({}): a container's seccomp profile or kernel lockdown forbids "
            "it; "
            "run memtrace on the host",
            strerror(error));
    if (error)
        fail("the kernel loads no BPF program: {}", strerror(error));
    if (has_tracepoints())
        return;
    if (mount("tracefs", kTracefs, "tracefs", 0, nullptr) == 0)
        spdlog::info("mounted tracefs at {}, where it usually is", kTracefs);
    if (!has_tracepoints())
        fail("tracepoints cannot be read at {}: mount tracefs there (mount -t tracefs tracefs {})", kTracefs, kTracefs);
}

RssSource choose_rss_source() {
    std::unique_ptr<btf, void (*)(btf *)> types(btf__load_vmlinux_btf(), btf__free);
    if (!types)
        return RssSource::kClassic;
    // The tracepoint that gives (mm, member), and counters that are four percpu_counters: Linux 6.2 and later.
    int tracepoint = btf__find_by_name_kind(types.get(), "btf_trace_rss_stat", BTF_KIND_TYPEDEF);
    int mm = btf__find_by_name_kind(types.get(), "mm_struct", BTF_KIND_STRUCT);
    if (tracepoint < 0 || mm < 0)
        return RssSource::kClassic;
    const btf_type *pointer =
        btf__type_by_id(types.get(), btf__type_by_id(types.get(), static_cast<__u32>(tracepoint))->type);
    const btf_type *prototype = btf__type_by_id(types.get(), pointer->type);
    if (btf_vlen(prototype) != 3)
        return RssSource::kClassic;
    // mm_struct's members sit in one anonymous struct; look one level down.
    std::vector<const btf_type *> structs = {btf__type_by_id(types.get(), static_cast<__u32>(mm))};
    for (size_t i = 0; i < structs.size(); i++) {
        const btf_member *members = btf_members(structs[i]);
        for (int k = 0; k < btf_vlen(structs[i]); k++) {
            const btf_type *type = btf__type_by_id(types.get(), members[k].type);
            std::string name = btf__name_by_offset(types.get(), members[k].name_off);
            if (name.empty() && btf_is_struct(type))
                structs.push_back(type);
            if (name != "rss_stat" || !btf_is_array(type))
                continue;
            const btf_type *element = btf__type_by_id(types.get(), btf_array(type)->type);
            if (std::string(btf__name_by_offset(types.get(), element->name_off)) == "percpu_counter")
                return RssSource::kBtf;
        }
    }
    return RssSource::kClassic;
}

std::string kernel_release() {
    utsname names{};
    uname(&names);
    return names.release;
}

}  // namespace memtrace
