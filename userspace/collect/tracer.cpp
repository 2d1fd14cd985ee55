// SPDX-License-Identifier: Apache-2.0
#include "collect/tracer.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <fmt/core.h>
#include <linux/perf_event.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <string_view>

#include "base/failure.h"
#include "base/file_descriptor.h"
#include "collect/kernel.h"
#include "memtrace.skel.h"
#include "process/proc_files.h"

namespace memtrace {

namespace {

// A process whose threads fault all the time is never at rest between two looks; each takes about a millisecond.
constexpr int kClosingAttempts = 10;

struct FailureName {
    const char *name;
    bool loses_bytes;
};
constexpr FailureName kFailureNames[MT_FAILURES] = {
    {"ring_full", true},     {"charges_full", true},      {"calls_full", true},      {"threads_full", true},
    {"accounts_full", true}, {"frame_unreadable", false}, {"frame_not_code", false}, {"stack_too_deep", false},
    {"no_scratch", true},    {"lines_full", true},        {"frame_register", false}, {"collections_full", true},
    {"native_full", false},  {"owners_full", false},      {"copies_full", false},    {"line_threads_full", true},
    {"preempted", false},
};

constexpr const char *kProgramNested = "program_nested";  // told by the kernel, and not by a program
constexpr const char *kCallsPassedOver = "calls_passed_over";
constexpr const char *kFaultsPassedOver = "page_faults_passed_over";
constexpr const char *kChangesPassedOver = "changes_passed_over";

// What it means that the kernel has passed over a program, because another was running on the CPU or, on a preemptible
// kernel, was preempted there.
const char *name_of_miss(std::string_view program) {
    if (program == "enter_call" || program == "leave_call")
        return kCallsPassedOver;  // the call is not counted; what it changes is charged all the same
    if (program.starts_with("on_page_"))
        return kFaultsPassedOver;
    if (program == "on_classic_rss_stat")
        return kChangesPassedOver;  // by bpf() calls that are preempted too: bpf_prog_active in trace_call_bpf()
    return kProgramNested;
}

// All rows of a hash map. Rows that are added meanwhile may or may not be among them.
template <typename Key, typename Value>
std::vector<std::pair<Key, Value>> read_hash(const bpf_map *map) {
    std::vector<std::pair<Key, Value>> rows;
    constexpr uint32_t kBatch = 4096;
    std::vector<Key> keys(kBatch);
    std::vector<Value> values(kBatch);
    uint32_t in = 0, out = 0;
    bool first = true;
    for (;;) {
        uint32_t count = kBatch;
        int error = bpf_map_lookup_batch(bpf_map__fd(map), first ? nullptr : &in, &out, keys.data(), values.data(),
                                         &count, nullptr);
        if (error && errno != ENOENT)
            fail("cannot read the BPF map {}: {}", bpf_map__name(map), strerror(errno));
        for (uint32_t i = 0; i < count; i++)
            rows.emplace_back(keys[i], values[i]);
        if (error)
            return rows;
        in = out;
        first = false;
    }
}

}  // namespace

Tracer::Tracer(const TracerSettings &settings)
    : settings_(settings), programs_(load_programs(settings)), probes_(*programs_, settings.empty_line_probe) {
    accounts_bytes_ = MT_SLOTS * sizeof(mt_account);
    void *shared =
        mmap(nullptr, accounts_bytes_, PROT_READ | PROT_WRITE, MAP_SHARED, bpf_map__fd(programs_->maps.accounts), 0);
    if (shared == MAP_FAILED)
        fail("cannot map the BPF accounts: {}", strerror(errno));
    accounts_ = static_cast<mt_account *>(shared);
    madvise(shared, accounts_bytes_, MADV_DONTFORK);  // not for children that read hostile files
    for (uint32_t id = 0; id < MT_SLOTS; id++)
        bpf_map_update_elem(bpf_map__fd(programs_->maps.free_accounts), nullptr, &id, BPF_ANY);

    for (uint32_t site = 0; settings.engine == Engine::kLine && site < MT_SITES; site++) {
        mt_line_site row{};
        row.state = site ? MT_SITE_LEARNING : MT_SITE_READ_ALWAYS;
        row.candidates = ~0u;
        bpf_map_update_elem(bpf_map__fd(programs_->maps.line_sites), &site, &row, BPF_ANY);
    }

    open_rings();
    if (memtrace_bpf__attach(programs_.get()))
        fail("cannot attach the BPF programs: {}", strerror(errno));
    if (bpf_program__autoload(programs_->progs.on_page_fault_event))
        attach_page_faults();
    run_iterator();  // so that the programs know who we are
}

// The software event PAGE_FAULTS of every CPU, each time.
void Tracer::attach_page_faults() {
    perf_event_attr attributes{};
    attributes.size = sizeof(attributes);
    attributes.type = PERF_TYPE_SOFTWARE;
    attributes.config = PERF_COUNT_SW_PAGE_FAULTS;
    attributes.sample_period = 1;
    for (int cpu = 0; cpu < libbpf_num_possible_cpus(); cpu++) {
        auto event = static_cast<int>(syscall(SYS_perf_event_open, &attributes, -1, cpu, -1, PERF_FLAG_FD_CLOEXEC));
        if (event < 0 && errno == ENODEV)
            continue;  // not online
        bpf_link *link =
            event < 0 ? nullptr : bpf_program__attach_perf_event(programs_->progs.on_page_fault_event, event);
        if (!link)
            fail("cannot attach to page faults, which this kernel ({}) tells of by a perf event: {}", kernel_release(),
                 strerror(errno));
        links_.emplace_back(link);
    }
}

void Tracer::open_rings() {
    auto receive = [](void *self, void *data, size_t size) {
        static_cast<Tracer *>(self)->handler_({static_cast<const uint8_t *>(data), size});
        return 0;
    };
    ring_.reset(ring_buffer__new(bpf_map__fd(programs_->maps.records), receive, this, nullptr));
    if (!ring_ ||
        (settings_.owners && ring_buffer__add(ring_.get(), bpf_map__fd(programs_->maps.owner_records), receive, this)))
        fail("cannot make the ring buffers: {}", strerror(errno));
}

Tracer::~Tracer() {
    if (accounts_)
        munmap(accounts_, accounts_bytes_);
}

void Tracer::Destroy::operator()(ring_buffer *ring) const {
    ring_buffer__free(ring);
}

void Tracer::Destroy::operator()(bpf_link *link) const {
    bpf_link__destroy(link);
}

void Tracer::run_command(mt_command command) {
    programs_->bss->mt_command = command;
    run_iterator();
    programs_->bss->mt_command = MT_COMMAND_NONE;
}

void Tracer::run_iterator() {
    FileDescriptor iterator(bpf_iter_create(bpf_link__fd(programs_->links.on_task)));
    if (!iterator)
        fail("cannot iterate over the kernel's tasks: {}", strerror(errno));
    char nothing[64];
    while (read(iterator.get(), nothing, sizeof(nothing)) > 0) {
    }
}

bool Tracer::follow(int pid, const mt_python &python) {
    programs_->bss->mt_command_python = python;
    programs_->bss->mt_command_tgid = static_cast<uint32_t>(pid);
    run_command(MT_COMMAND_OPEN);
    for (const mt_account *account : accounts())
        if (account->tgid == static_cast<uint32_t>(pid))
            return true;
    return false;
}

void Tracer::expect(int pid) {
    auto tgid = static_cast<uint32_t>(pid);
    mt_process process{MT_NO_ACCOUNT, 1};
    if (bpf_map__update_elem(programs_->maps.processes, &tgid, sizeof(tgid), &process, sizeof(process), BPF_ANY))
        fail("cannot register process {} with the BPF programs: {}", pid, strerror(errno));
}

void Tracer::stop_at_end(int pid) {
    programs_->bss->mt_stop_at_end_tgid = static_cast<uint32_t>(pid);
}

std::string Tracer::stop_at_call(int pid, const std::string &path, uint64_t offset, uint64_t finalizing) {
    programs_->bss->mt_finalizing_word = finalizing;
    return probes_.attach_function(programs_->progs.on_finalizing, pid, path, offset);
}

void Tracer::remember_interpreter(const mt_file_id &executable, const mt_python &python) {
    // A full map costs nothing but the head start.
    bpf_map__update_elem(programs_->maps.interpreters, &executable, sizeof(executable), &python, sizeof(python),
                         BPF_ANY);
}

void Tracer::stop() {
    probes_.keep({});
    programs_->bss->mt_stopping = 1;
    if (kernel_types().threads_keep_counts)
        close_what_threads_keep();
    run_command(MT_COMMAND_CLOSE);
}

// The balance of an account and what its threads keep are not read at one moment, for nothing stops the process. So it
// is closed when they changed nothing between; one that is never so quiet is closed all the same, and what came between
// is unexplained.
void Tracer::close_what_threads_keep() {
    for (int attempt = 0; attempt < kClosingAttempts; attempt++) {
        bool any_open = false;
        for (uint32_t slot = 0; slot < MT_SLOTS; slot++) {
            mt_account &account = accounts_[slot];
            if (account.state != MT_ACCOUNT_OPEN)
                continue;
            any_open = true;
            std::fill(std::begin(account.own), std::end(account.own), 0);
            account.own_changes_looked_at = account.own_changes;
        }
        if (!any_open)
            return;
        run_command(MT_COMMAND_LOOK);
        run_command(MT_COMMAND_CLOSE_LOOKED_AT);
    }
}

int Tracer::epoll_fd() const {
    return ring_buffer__epoll_fd(ring_.get());
}

void Tracer::poll(const std::function<void(std::span<const uint8_t>)> &handler) {
    handler_ = handler;
    ring_buffer__consume(ring_.get());
}

std::vector<const mt_account *> Tracer::accounts() const {
    std::vector<const mt_account *> used;
    for (uint32_t slot = 0; slot < MT_SLOTS; slot++)
        if (std::atomic_ref(accounts_[slot].state).load(std::memory_order_acquire) != MT_ACCOUNT_FREE)
            used.push_back(&accounts_[slot]);
    return used;
}

const mt_account *Tracer::account(uint32_t id) const {
    const mt_account &row = accounts_[id % MT_SLOTS];
    return row.id == id && row.state != MT_ACCOUNT_FREE ? &row : nullptr;
}

bool Tracer::set_python(uint32_t account, const mt_python &python) {
    mt_account &row = accounts_[account % MT_SLOTS];
    if (row.id != account || row.state != MT_ACCOUNT_OPEN)
        return false;
    mt_python pending = python;
    pending.state = MT_PYTHON_PENDING;
    row.python = pending;
    std::atomic_ref(row.python.state).store(python.state, std::memory_order_release);
    return true;
}

void Tracer::set_native_site(const mt_native_key &key, const mt_native_site &site) {
    // One that is forgotten is asked for again.
    bpf_map__update_elem(programs_->maps.native_sites, &key, sizeof(key), &site, sizeof(site), BPF_ANY);
}

std::vector<ChargeRow> Tracer::read_charges() const {
    return read_hash<mt_charge_key, mt_charge>(programs_->maps.charges);
}

std::vector<CallRow> Tracer::read_calls() const {
    return read_hash<mt_call_key, mt_call_sum>(programs_->maps.calls);
}

std::vector<LineRow> Tracer::read_lines() const {
    if (settings_.engine != Engine::kLine && !settings_.function_calls)
        return {};
    return read_hash<mt_line_key, mt_line_row>(programs_->maps.lines);
}

std::vector<CollectionRow> Tracer::read_collections() const {
    return read_hash<mt_collection_key, mt_collection_sum>(programs_->maps.collections);
}

std::vector<CopyRow> Tracer::read_copies() const {
    if (!settings_.owners)
        return {};
    return read_hash<mt_charge_key, uint64_t>(programs_->maps.copies);
}

void Tracer::forget(const AccountData &closed) {
    for (const auto &[key, pages] : closed.copies)
        bpf_map__delete_elem(programs_->maps.copies, &key, sizeof(key), 0);
    for (const auto &[key, sum] : closed.collections)
        bpf_map__delete_elem(programs_->maps.collections, &key, sizeof(key), 0);
    for (const auto &[key, row] : closed.lines)
        bpf_map__delete_elem(programs_->maps.lines, &key, sizeof(key), 0);
    for (const auto &[key, charge] : closed.charges)
        bpf_map__delete_elem(programs_->maps.charges, &key, sizeof(key), 0);
    for (const auto &[key, sum] : closed.calls)
        bpf_map__delete_elem(programs_->maps.calls, &key, sizeof(key), 0);
    accounts_[closed.account.id % MT_SLOTS].state = MT_ACCOUNT_FREE;
    uint32_t next = closed.account.id + MT_SLOTS;
    bpf_map_update_elem(bpf_map__fd(programs_->maps.free_accounts), nullptr, &next, BPF_ANY);
}

std::map<std::string, uint64_t> Tracer::failures() const {
    std::map<std::string, uint64_t> counts;
    std::vector<uint64_t> per_cpu(static_cast<size_t>(libbpf_num_possible_cpus()));
    for (uint32_t kind = 0; kind < MT_FAILURES; kind++) {
        if (bpf_map_lookup_elem(bpf_map__fd(programs_->maps.failures), &kind, per_cpu.data()))
            continue;
        for (uint64_t count : per_cpu)
            if (count)
                counts[kFailureNames[kind].name] += count;
    }
    bpf_program *program;
    bpf_object__for_each_program(program, programs_->obj) {
        bpf_prog_info info{};
        uint32_t size = sizeof(info);
        if (bpf_program__fd(program) >= 0 && bpf_obj_get_info_by_fd(bpf_program__fd(program), &info, &size) == 0 &&
            info.recursion_misses)
            counts[name_of_miss(bpf_program__name(program))] += info.recursion_misses;
    }
    return counts;
}

uint64_t Tracer::lost_events() const {
    auto counts = failures();
    uint64_t lost = 0;
    for (const char *missed : {kProgramNested, kChangesPassedOver})
        lost += counts.contains(missed) ? counts[missed] : 0;
    for (const FailureName &failure : kFailureNames)
        if (failure.loses_bytes && counts.contains(failure.name))
            lost += counts[failure.name];
    return lost;
}

bool Tracer::lost_line_hits() const {
    return failures().contains(kFailureNames[MT_FAIL_LINE_THREADS_FULL].name);
}

std::vector<std::string> Tracer::failure_names() {
    std::vector<std::string> names = {kProgramNested, kCallsPassedOver, kFaultsPassedOver, kChangesPassedOver};
    for (const FailureName &failure : kFailureNames)
        names.emplace_back(failure.name);
    return names;
}

std::optional<int64_t> Tracer::map_bytes() const {
    constexpr std::string_view kField = "\nmemlock:";
    int64_t all = 0;
    bpf_map *map;
    bpf_object__for_each_map(map, programs_->obj) {
        if (bpf_map__fd(map) < 0)
            continue;
        auto info = read_whole_file(fmt::format("/proc/self/fdinfo/{}", bpf_map__fd(map)));
        size_t at = info ? info->find(kField) : std::string::npos;
        if (at == std::string::npos)
            return std::nullopt;
        all += std::strtoll(info->c_str() + at + kField.size(), nullptr, 10);
    }
    return all;
}

std::vector<ProgramCost> Tracer::program_costs() const {
    std::vector<ProgramCost> costs;
    bpf_program *program;
    bpf_object__for_each_program(program, programs_->obj) {
        bpf_prog_info info{};
        uint32_t size = sizeof(info);
        if (bpf_program__fd(program) >= 0 && bpf_obj_get_info_by_fd(bpf_program__fd(program), &info, &size) == 0 &&
            info.run_cnt)
            costs.push_back({bpf_program__name(program), info.run_cnt, info.run_time_ns});
    }
    return costs;
}

}  // namespace memtrace
