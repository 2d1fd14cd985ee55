// SPDX-License-Identifier: Apache-2.0
#include "collect/programs.h"

#include <bpf/libbpf.h>
#include <fmt/core.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <sstream>
#include <string_view>
#include <vector>

#include "memtrace.skel.h"

namespace memtrace {

namespace {

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

// What depends on the machine.
void fit_to_machine(memtrace_bpf &programs, uint32_t cpus) {
    programs.rodata->mt_cpus = cpus;
    // compute_batch_value(), Linux 6.18.
    programs.rodata->mt_counter_batch = std::max(32, 2 * static_cast<int>(sysconf(_SC_NPROCESSORS_ONLN)));
    programs.rodata->mt_page_shift = static_cast<uint32_t>(__builtin_ctzl(static_cast<unsigned long>(getpagesize())));
    for (const TracedCall &traced : kTracedCalls)
        programs.rodata->mt_call_numbers[traced.call] = traced.number;
    bpf_map__set_max_entries(programs.maps.cpu_shares, MT_SLOTS * cpus);
}

void choose_rss_hook(memtrace_bpf &programs, RssSource source) {
    bool classic = source == RssSource::kClassic;
    programs.rodata->mt_classic = classic;
    bpf_program__set_autoload(programs.progs.on_rss_stat, !classic);
    bpf_program__set_autoload(programs.progs.on_classic_rss_stat, classic);
}

void choose_probes(memtrace_bpf &programs, const TracerSettings &settings) {
    bool by_lines = settings.engine == Engine::kLine;
    programs.rodata->mt_line_engine = by_lines;
    bpf_program__set_autoload(programs.progs.on_line, by_lines && !settings.empty_line_probe);
    bpf_program__set_autoload(programs.progs.on_line_empty, by_lines && settings.empty_line_probe);
    bpf_program__set_autoload(programs.progs.on_function_entry, settings.function_calls);
    for (bpf_program *program : {programs.progs.on_import_start, programs.progs.on_import_done})
        bpf_program__set_autoload(program, settings.imports);
    bpf_map__set_autocreate(programs.maps.lines, by_lines || settings.function_calls);
    for (bpf_map *map : {programs.maps.line_threads, programs.maps.line_sites})
        bpf_map__set_autocreate(map, by_lines);
}

void choose_owners(memtrace_bpf &programs, bool wanted, uint32_t cpus) {
    programs.rodata->mt_owners = wanted;
    for (bpf_program *program :
         {programs.progs.on_page_fault_user, programs.progs.on_page_fault_kernel, programs.progs.on_page_alloc})
        bpf_program__set_autoload(program, wanted);
    bpf_map__set_max_entries(programs.maps.copies, wanted ? 16384 : 1);
    bpf_map__set_max_entries(programs.maps.owner_runs, wanted ? MT_SLOTS * cpus : 1);
    if (!wanted)
        bpf_map__set_max_entries(programs.maps.owner_records, static_cast<uint32_t>(getpagesize()));
}

}  // namespace

void DestroyPrograms::operator()(memtrace_bpf *programs) const {
    memtrace_bpf__destroy(programs);
}

Programs load_programs(const TracerSettings &settings) {
    libbpf_set_print(take_message);
    Programs programs(memtrace_bpf__open());
    if (!programs)
        throw LoadRefusal(fmt::format("the BPF programs cannot be opened: {}", strerror(errno)),
                          "the program may be damaged: build it again");
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
                          "--verbose shows all that it says");
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
