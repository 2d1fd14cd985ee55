// SPDX-License-Identifier: Apache-2.0
#include "collect/programs.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <fmt/core.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <sstream>
#include <string_view>
#include <vector>

#include "base/file_descriptor.h"
#include "collect/kernel.h"
#include "collect/uprobes.h"
#include "memtrace.skel.h"
#include "memtrace_before_5_12.skel.h"

namespace memtrace {

namespace {

constexpr const char *kKernelTypes = "/sys/kernel/btf/vmlinux";
// Of what libbpf prints.
constexpr std::string_view kPrefix = "libbpf: ";
constexpr std::string_view kLogBegins = "-- BEGIN PROG LOAD LOG --\n";
constexpr std::string_view kLogEnds = "-- END PROG LOAD LOG --";

// libbpf calls a plain function. While programs are loaded, its warnings are kept.
std::vector<std::string> *warnings = nullptr;

int take_message(libbpf_print_level level, const char *format, va_list arguments) {
    va_list again;
    va_copy(again, arguments);
    std::string text(static_cast<size_t>(std::max(0, vsnprintf(nullptr, 0, format, again))), '\0');
    va_end(again);
    vsnprintf(text.data(), text.size() + 1, format, arguments);
    while (text.ends_with('\n'))
        text.pop_back();
    spdlog::log(level == LIBBPF_DEBUG ? spdlog::level::trace : spdlog::level::debug, "{}", text);
    if (level == LIBBPF_WARN && warnings)
        warnings->push_back(std::move(text));
    return 0;
}

// Whether the kernel has atomic operations that give something back: Linux 5.12 and later.
bool has_atomics() {
    const bpf_insn program[] = {
        {.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .src_reg = 0, .off = 0, .imm = 0},
        {.code = BPF_STX | BPF_MEM | BPF_DW, .dst_reg = BPF_REG_10, .src_reg = BPF_REG_0, .off = -8, .imm = 0},
        {.code = BPF_STX | BPF_ATOMIC | BPF_DW,
         .dst_reg = BPF_REG_10,
         .src_reg = BPF_REG_0,
         .off = -8,
         .imm = BPF_XCHG},
        {.code = BPF_JMP | BPF_EXIT, .dst_reg = 0, .src_reg = 0, .off = 0, .imm = 0},
    };
    FileDescriptor loaded(
        bpf_prog_load(BPF_PROG_TYPE_TRACEPOINT, "mt_atomics", "Dual BSD/GPL", program, std::size(program), nullptr));
    return loaded || errno != EINVAL;
}

// Both objects are of one source (bpf/CMakeLists.txt), so that one skeleton describes either.
static_assert(sizeof(memtrace_bpf) == sizeof(memtrace_before_5_12_bpf));
static_assert(sizeof(*memtrace_bpf::rodata) == sizeof(*memtrace_before_5_12_bpf::rodata));
static_assert(sizeof(*memtrace_bpf::bss) == sizeof(*memtrace_before_5_12_bpf::bss));

Programs open_programs(const bpf_object_open_opts &options) {
    Programs programs(static_cast<memtrace_bpf *>(calloc(1, sizeof(memtrace_bpf))));
    if (!programs || memtrace_bpf__create_skeleton(programs.get()))
        return nullptr;
    if (!has_atomics()) {
        size_t size = 0;
        programs->skeleton->data = const_cast<void *>(memtrace_before_5_12_bpf__elf_bytes(&size));
        programs->skeleton->data_sz = size;
    }
    if (bpf_object__open_skeleton(programs->skeleton, &options))
        return nullptr;
    return programs;
}

// What depends on the machine.
void fit_to_machine(memtrace_bpf &programs, uint32_t cpus) {
    programs.rodata->mt_cpus = cpus;
    // compute_batch_value(), Linux 6.18.
    programs.rodata->mt_counter_batch = std::max(32, 2 * static_cast<int>(sysconf(_SC_NPROCESSORS_ONLN)));
    programs.rodata->mt_page_shift = static_cast<uint32_t>(__builtin_ctzl(static_cast<unsigned long>(getpagesize())));
    for (const TracedCall &traced : kTracedCalls)
        programs.rodata->mt_call_numbers[traced.call] = traced.number;
    programs.rodata->mt_sigaction_number = SYS_rt_sigaction;
    bpf_map__set_max_entries(programs.maps.cpu_shares, MT_SLOTS * cpus);
}

void choose_rss_hook(memtrace_bpf &programs, RssSource source) {
    programs.rodata->mt_classic = source == RssSource::kClassic;
    bpf_program__set_autoload(programs.progs.on_rss_stat, source == RssSource::kBtf);
    bpf_program__set_autoload(programs.progs.on_counted_rss_stat, source == RssSource::kCounted);
    bpf_program__set_autoload(programs.progs.on_classic_rss_stat, source == RssSource::kClassic);
}

void choose_probes(memtrace_bpf &programs, const TracerSettings &settings) {
    bool by_lines = settings.engine == Engine::kLine;
    programs.rodata->mt_line_engine = by_lines;
    bpf_program__set_autoload(programs.progs.on_line, by_lines && !settings.empty_line_probe);
    bpf_program__set_autoload(programs.progs.on_line_empty, by_lines && settings.empty_line_probe);
    bpf_program__set_autoload(programs.progs.on_function_entry, settings.function_calls);
    bpf_program__set_autoload(programs.progs.on_import, settings.imports);
    bpf_map__set_autocreate(programs.maps.lines, by_lines || settings.function_calls);
    for (bpf_map *map : {programs.maps.line_threads, programs.maps.line_sites})
        bpf_map__set_autocreate(map, by_lines);
    if (has_uprobe_multi())
        for (bpf_program *program :
             {programs.progs.on_line, programs.progs.on_line_empty, programs.progs.on_function_entry,
              programs.progs.on_gc, programs.progs.on_import, programs.progs.on_finalizing})
            bpf_program__set_expected_attach_type(program, static_cast<bpf_attach_type>(kUprobeMulti));
}

void choose_owners(memtrace_bpf &programs, bool wanted, uint32_t cpus) {
    programs.rodata->mt_owners = wanted;
    bool faults = wanted || kernel_types().threads_keep_counts, by_tracepoint = kernel_types().fault_tracepoints;
    for (bpf_program *program : {programs.progs.on_page_fault_user, programs.progs.on_page_fault_kernel})
        bpf_program__set_autoload(program, faults && by_tracepoint);
    bpf_program__set_autoload(programs.progs.on_page_fault_event, faults && !by_tracepoint);
    // What is copied on write is told from what the fault was for, which only the tracepoints say.
    bpf_program__set_autoload(programs.progs.on_page_alloc, counts_copies(wanted));
    bpf_map__set_max_entries(programs.maps.copies, wanted ? 16384 : 1);
    bpf_map__set_max_entries(programs.maps.owner_runs, wanted ? MT_SLOTS * cpus : 1);
    if (!wanted)
        bpf_map__set_max_entries(programs.maps.owner_records, static_cast<uint32_t>(getpagesize()));
}

}  // namespace

bool counts_copies(bool owners) {
    return owners && kernel_types().fault_tracepoints && kernel_types().page_alloc;
}

void DestroyPrograms::operator()(memtrace_bpf *programs) const {
    memtrace_bpf__destroy(programs);
}

Programs load_programs(const TracerSettings &settings) {
    libbpf_set_print(take_message);
    bpf_object_open_opts options{};
    options.sz = sizeof(options);
    // Types that this kernel does not have would be looked for in its modules too, which is for cap_sys_admin only.
    uint32_t first = 0;
    if (bpf_btf_get_next_id(0, &first) && errno == EPERM)
        options.btf_custom_path = kKernelTypes;
    Programs programs = open_programs(options);
    if (!programs)
        throw LoadRefusal(fmt::format("the BPF programs cannot be opened: {}", strerror(errno)),
                          "the program may be damaged: build it again");
    if (settings.engine == Engine::kLine &&
        libbpf_probe_bpf_helper(BPF_PROG_TYPE_KPROBE, BPF_FUNC_task_storage_get, nullptr) == 0)
        throw LoadRefusal(
            fmt::format("the line engine needs Linux 5.13 or later, where probes can remember something of a "
                        "thread, and this is {}",
                        kernel_release()),
            "the stack engine, without --engine line, gives the same bytes");
    auto cpus = static_cast<uint32_t>(libbpf_num_possible_cpus());
    programs->rodata->mt_follow_children = settings.follow_children;
    fit_to_machine(*programs, cpus);
    choose_rss_hook(*programs, settings.source);
    choose_probes(*programs, settings);
    choose_owners(*programs, settings.owners, cpus);
    std::vector<std::string> said;
    warnings = &said;
    int error = memtrace_bpf__load(programs.get()) ? errno : 0;
    warnings = nullptr;
    if (error)
        throw LoadRefusal(fmt::format("this kernel ({}) refuses memtrace's BPF programs: {}", kernel_release(),
                                      said.empty() ? strerror(error) : why_not_loaded(said)),
                          error == EPERM && kernel_is_before(5, 11)
                              ? "before Linux 5.11 BPF maps are locked memory: raise its limit (ulimit -l unlimited), "
                                "or add cap_sys_resource"
                              : "memtrace run --verbose -- true shows all that it says");
    return programs;
}

std::string why_not_loaded(const std::vector<std::string> &messages) {
    auto without_prefix = [](std::string_view text) {
        return std::string(text.substr(text.starts_with(kPrefix) ? kPrefix.size() : 0));
    };
    for (std::string_view message : messages) {
        size_t begin = message.find(kLogBegins);
        if (begin == std::string_view::npos)
            continue;
        // What the verifier has followed, its verdict, and its statistics.
        std::istringstream log{std::string(message.substr(begin + kLogBegins.size()))};
        std::string verdict;
        for (std::string line; std::getline(log, line) && line != kLogEnds;)
            if (!line.empty() && !line.starts_with("processed ") && !line.starts_with("verification time ") &&
                !line.starts_with("stack depth "))
                verdict = line;
        return without_prefix(message.substr(0, begin)) + verdict;
    }
    // The first is nearest to the cause: the others say that what it is part of failed too.
    return messages.empty() ? "" : without_prefix(messages.front());
}

}  // namespace memtrace
