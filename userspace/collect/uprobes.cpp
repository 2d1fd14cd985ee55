// SPDX-License-Identifier: Apache-2.0
#include "collect/uprobes.h"

#include <bpf/bpf.h>
#include <fmt/core.h>
#include <linux/bpf.h>
#include <linux/perf_event.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <optional>

#include "process/elf_image.h"
#include "process/proc_files.h"
#include "process/regular_file.h"

namespace memtrace {

namespace {

// What BPF_LINK_CREATE takes of union bpf_attr, which is older where memtrace is built.
struct LinkCreate {
    uint32_t program = 0;
    uint32_t target = 0;
    uint32_t attach_type = kUprobeMulti;
    uint32_t flags = 0;
    uint64_t path = 0;
    uint64_t offsets = 0;
    uint64_t semaphore_offsets = 0;
    uint64_t cookies = 0;
    uint32_t count = 0;
    uint32_t uprobe_flags = 0;
    uint32_t pid = 0;
    uint32_t zero = 0;
};
static_assert(sizeof(LinkCreate) == 64);

uint64_t address_of(const void *data) {
    return reinterpret_cast<uint64_t>(data);
}

FileDescriptor create_link(int program, const std::string &path, uint32_t pid, const std::vector<UprobePlace> &places) {
    std::vector<uint64_t> offsets, semaphore_offsets, cookies;
    for (const UprobePlace &place : places) {
        offsets.push_back(place.offset);
        semaphore_offsets.push_back(place.semaphore_offset);
        cookies.push_back(place.cookie);
    }
    LinkCreate attributes;
    attributes.program = static_cast<uint32_t>(program);
    attributes.path = address_of(path.c_str());
    attributes.offsets = address_of(offsets.data());
    attributes.semaphore_offsets = address_of(semaphore_offsets.data());
    attributes.cookies = address_of(cookies.data());
    attributes.count = static_cast<uint32_t>(places.size());
    attributes.pid = pid;
    return FileDescriptor(static_cast<int>(syscall(SYS_bpf, BPF_LINK_CREATE, &attributes, sizeof(attributes))));
}

FileDescriptor load_return_0() {
    const bpf_insn program[] = {
        {.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .src_reg = 0, .off = 0, .imm = 0},
        {.code = BPF_JMP | BPF_EXIT, .dst_reg = 0, .src_reg = 0, .off = 0, .imm = 0},
    };
    bpf_prog_load_opts options{};
    options.sz = sizeof(options);
    options.expected_attach_type = static_cast<bpf_attach_type>(kUprobeMulti);
    return FileDescriptor(
        bpf_prog_load(BPF_PROG_TYPE_KPROBE, "mt_multi", "Dual BSD/GPL", program, std::size(program), &options));
}

// The kernel's number for perf events of this kind; none when it has no such events.
std::optional<uint32_t> perf_uprobe_type() {
    auto text = read_whole_file("/sys/bus/event_source/devices/uprobe/type");
    if (!text)
        return std::nullopt;
    return static_cast<uint32_t>(std::strtoul(text->c_str(), nullptr, 10));
}

std::string path_of(int file) {
    return fmt::format("/proc/self/fd/{}", file);
}

FileDescriptor open_event(uint32_t type, const char *path, int pid, const UprobePlace &place) {
    perf_event_attr attributes{};
    attributes.size = sizeof(attributes);
    attributes.type = type;
    attributes.config = place.semaphore_offset << 32;  // format/ref_ctr_offset: config:32-63
    attributes.config1 = address_of(path);
    attributes.config2 = place.offset;
    return FileDescriptor(
        static_cast<int>(syscall(SYS_perf_event_open, &attributes, pid, -1, -1, PERF_FLAG_FD_CLOEXEC)));
}

}  // namespace

bool has_uprobe_multi() {
    FileDescriptor program = load_return_0();
    if (!program)
        return false;
    // "/" is no file that programs can be attached to, and of that a kernel with uprobe_multi complains. One that means
    // threads by pids (before 6.10, and stable releases from before mid-2024) does not look at the pid first.
    const std::vector<UprobePlace> place(1);
    if (create_link(program.get(), "/", 0, place) || errno != EBADF)
        return false;
    return !create_link(program.get(), "/", static_cast<uint32_t>(-1), place) && errno == EINVAL;
}

std::string perf_uprobes_refusal() {
    auto type = perf_uprobe_type();
    if (!type)
        return "this kernel has no uprobes (CONFIG_UPROBE_EVENTS)";
    if (!read_whole_file("/sys/bus/event_source/devices/uprobe/format/ref_ctr_offset"))
        return "this kernel's uprobes have no semaphores, which Linux 4.20 and later have";
    // Tried on our own code, at its first instruction, which has run.
    const char *path = "/proc/self/exe";
    auto image = read_elf_image(open_regular_file(path), {});
    auto offset = image ? image->offset_of(image->text_start) : std::nullopt;
    if (!offset)
        return fmt::format("{} cannot be read", path);
    if (open_event(*type, path, getpid(), {.offset = *offset}))
        return "";
    if (errno == EACCES || errno == EPERM)
        return "this kernel attaches probes to programs for cap_sys_admin only";
    return fmt::format("the kernel attaches no probes: {}", strerror(errno));
}

FileDescriptor attach_uprobe_multi(int program, int file, int pid, const std::vector<UprobePlace> &places) {
    return create_link(program, path_of(file), static_cast<uint32_t>(pid), places);
}

FileDescriptor open_uprobe_event(int file, int pid, const UprobePlace &place) {
    static const auto type = perf_uprobe_type();
    errno = ENOTSUP;
    return type ? open_event(*type, path_of(file).c_str(), pid, place) : FileDescriptor();
}

}  // namespace memtrace
