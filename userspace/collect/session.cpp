// SPDX-License-Identifier: Apache-2.0
#include "collect/session.h"

#include <fmt/core.h>
#include <malloc.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <set>

#include "base/memory_budget.h"
#include "process/given_up.h"
#include "process/reading_child.h"

namespace memtrace {

namespace {

using namespace std::chrono_literals;

// Closed accounts are taken out of the kernel's maps when this many wait, so that a program that starts thousands of
// short processes never runs out of slots.
constexpr size_t kCollectAt = 64;
constexpr size_t kMaxSourceRoots = 200;
constexpr size_t kMaxKnownInterpreters = 1024;  // files; of more, all are found anew
constexpr size_t kMaxImportEvents = 100'000;    // of a process; what comes after is left out
constexpr auto kSearchEvery = 5ms;              // for an interpreter, in the second after code was mapped
constexpr auto kLaterSearchEvery = 500ms;
constexpr auto kCLibraryWithin = 5s;  // after its program or other code; by then one would be mapped
constexpr auto kNamingEvery = 100ms;  // of native places: each time costs a child process
constexpr auto kLastNaming = 2s;      // how long the report may wait for them
// A charge may be on its way on another CPU while its account is being closed.
constexpr uint64_t kSettleNs = 50'000'000;

uint64_t monotonic_ns() {
    timespec now{};
    clock_gettime(CLOCK_MONOTONIC, &now);
    return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

}  // namespace

Session::Session(const TracerSettings &settings) : tracer_(settings) {}

bool Session::follow(int pid, const FoundPython &python) {
    ProcessDetails details;
    details.identity = read_identity(pid);
    details.sources = open_sources(pid);
    if (!tracer_.follow(pid, python.runtime))
        return false;
    details.python = remember(python, python.open_path(pid));
    details.probes = attach_probes(pid, *details.python, python.open_path(pid));
    for (const mt_account *account : tracer_.accounts()) {
        if (account->tgid != static_cast<uint32_t>(pid))
            continue;
        // What was touched meanwhile is told by a record that is taken later, and goes before this.
        if (auto present = tracer_.settings().owners ? read_present_pages(pid) : std::nullopt)
            for (const PageRange &range : *present)
                owned_.claim(account->id, range, {MT_OWNER_BEFORE_ATTACH, account->id, 0});
        details_[account->id] = std::move(details);
    }
    return true;
}

std::vector<Probed> wanted_probes(const TracerSettings &settings) {
    std::vector<Probed> wanted;
    if (settings.engine == Engine::kLine)
        wanted.push_back(Probed::kLines);
    if (settings.function_calls)
        wanted.push_back(Probed::kFunctionEntries);
    wanted.push_back(Probed::kCollections);
    if (settings.imports)
        wanted.push_back(Probed::kImports);
    return wanted;
}

std::shared_ptr<const FoundPython> Session::remember(FoundPython python, const std::string &path) {
    if (!python.awaits_c_library)
        tracer_.remember_interpreter(python.file, python.unrelocated());
    std::pair file{python.file.device, python.file.inode};
    auto known = known_.find(file);
    python.probes = known == known_.end() ? read_usdt_probes(path, python.version) : known->second->probes;
    if (known_.size() >= kMaxKnownInterpreters)
        known_.clear();
    return known_.insert_or_assign(file, std::make_shared<FoundPython>(std::move(python))).first->second;
}

void Session::expect(int pid, const std::string &command, bool stop_at_end) {
    expected_ = pid;
    stop_at_end_ = stop_at_end;
    if (auto python = find_python_of_command(command))
        attach_probes(pid, *remember(*python, python->module_path), python->module_path);
    tracer_.expect(pid);
    if (stop_at_end)
        tracer_.stop_at_end(pid);
}

// Of a process whose interpreter is known by now; `path` opens its file.
void Session::watch_for_end(const mt_account &account, const std::string &path) {
    const auto &python = details_[account.id].python;
    if (!stop_at_end_ || !is_expected(account) || !python || account.python.state != MT_PYTHON_READY)
        return;
    end_unwatched_.clear();
    uint64_t finalizing = python->finalizing ? account.python.runtime + *python->finalizing : 0;
    if (!python->end_function)
        end_unwatched_ = "the interpreter exports no function that it calls then";
    else
        end_unwatched_ = tracer_.stop_at_call(expected_, path, *python->end_function, finalizing);
}

std::map<Probed, std::string> Session::attach_probes(int pid, const FoundPython &python, const std::string &path) {
    ProbeLinks &links = tracer_.probes();
    std::map<Probed, std::string> refusals;
    for (Probed what : wanted_probes(tracer_.settings())) {
        std::string &refusal = refusals[what];
        if (what == Probed::kFunctionEntries)
            refusal = calls_refusal(python.probes, links.has(Probed::kLines, pid, python.file));
        if (refusal.empty())
            refusal = links.attach(what, pid, python, path);
    }
    warn_of_refusals(pid, python, refusals);
    return refusals;
}

// Of what was asked for by an option, once for an interpreter; the report says the rest.
void Session::warn_of_refusals(int pid, const FoundPython &python, const std::map<Probed, std::string> &refusals) {
    const std::map<Probed, const char *> consequences = {
        {Probed::kLines, "its lines are found by the stack engine, and not counted"},
        {Probed::kFunctionEntries, "its calls of functions are not counted"},
        {Probed::kImports, "its imports are not seen"},
    };
    for (const auto &[what, refusal] : refusals)
        if (!refusal.empty() && consequences.contains(what) && has_memory(pid) &&
            refused_.emplace(what, python.file.device, python.file.inode).second)
            spdlog::warn("process {} ({}): {}; {}", pid, python.module_path, refusal, consequences.at(what));
}

bool Session::add_import(std::span<const uint8_t> bytes) {
    if (bytes.size() < sizeof(mt_import_record))
        return false;
    mt_import_record record;
    std::memcpy(&record, bytes.data(), sizeof(record));
    std::vector<ImportEvent> &events = imports_[record.record.account];
    if (events.size() >= kMaxImportEvents) {
        imports_left_out_++;
        return true;
    }
    events.push_back({record.tid, record.begins != 0, record.found != 0, record.ns, record.rss * getpagesize(),
                      std::string(record.module, strnlen(record.module, sizeof(record.module)))});
    return true;
}

// Of processes that have ended.
void Session::drop_probes() {
    std::set<int> live = {expected_};
    for (const mt_account *account : tracer_.accounts())
        if (account->state == MT_ACCOUNT_OPEN)
            live.insert(static_cast<int>(account->tgid));
    tracer_.probes().keep(live);
}

// It is switched on while the interpreter starts, and stays on.
void Session::look_for_jit() {
    for (const mt_account *account : tracer_.accounts()) {
        auto details = details_.find(account->id);
        if (account->state != MT_ACCOUNT_OPEN || details == details_.end() || details->second.jit ||
            !details->second.python)
            continue;
        ProcessMemory memory(static_cast<int>(account->tgid));
        details->second.jit = details->second.python->jit_is_on(account->python, memory);
    }
}

// Of processes that live: a stack is unwound by the files that they have mapped.
void Session::name_native_places() {
    const GivenUp &given_up = GivenUp::instance();
    size_t before = given_up.times(GivenUp::kFiles);
    for (uint32_t id : natives_.waiting()) {
        const mt_account *account = tracer_.account(id);
        if (!account || account->state != MT_ACCOUNT_OPEN) {
            natives_.drop(id);
            continue;
        }
        for (const auto &[key, site] : natives_.name(id, static_cast<int>(account->tgid)))
            tracer_.set_native_site(key, site);
        if (given_up.times(GivenUp::kFiles) > before)
            break;  // it took long: first, what else there is to do
    }
    next_naming_ = Clock::now() + kNamingEvery;
}

// Each holds two files open, and our limit is our children's too.
std::shared_ptr<SourceFiles> Session::open_sources(int pid) {
    if (++source_roots_ > kMaxSourceRoots)
        return nullptr;
    return std::make_shared<SourceFiles>(pid);
}

void Session::tick() {
    take_records();
    look_at_new_accounts();
    search_interpreters();
    look_for_jit();
    if (natives_.has_waiting() && Clock::now() >= next_naming_)
        name_native_places();
    collect_closed();
    drop_probes();
}

void Session::take_records() {
    tracer_.poll([this](std::span<const uint8_t> record) { receive(record); });
}

void Session::receive(std::span<const uint8_t> bytes) {
    mt_record record;
    bool good = bytes.size() >= sizeof(record);
    if (good) {
        std::memcpy(&record, bytes.data(), sizeof(record));
        if (record.kind == MT_RECORD_STACK) {
            good = codes_.add_stack(bytes);
        } else if (record.kind == MT_RECORD_CODE) {
            const mt_account *account = tracer_.account(record.account);
            if (!account)
                return;
            ProcessMemory memory(static_cast<int>(account->tgid));
            good = codes_.add_code(bytes, account->python, memory);
        } else if (record.kind == MT_RECORD_LINE) {
            good = codes_.add_line(bytes);
        } else if (record.kind == MT_RECORD_NATIVE) {
            good = natives_.add(bytes);
        } else if (record.kind == MT_RECORD_IMPORT) {
            good = add_import(bytes);
        } else if (record.kind == MT_RECORD_ENDING) {
            mt_ending_record ending;
            good = bytes.size() >= sizeof(ending);
            if (good) {
                std::memcpy(&ending, bytes.data(), sizeof(ending));
                ending_ = {record.account, ending.ns};
            }
        } else if (record.kind >= MT_RECORD_TOUCH && record.kind <= MT_RECORD_INHERIT) {
            good = !tracer_.account(record.account) || owned_.add(bytes);
        } else if (auto search = searching_.find(record.account);
                   record.kind == MT_RECORD_LOOK && search != searching_.end()) {
            // Perhaps it has just loaded its interpreter. (A new account is found by look_at_new_accounts.)
            search->second = {Clock::now(), std::min(Clock::now() + kSearchEvery, search->second.next)};
        }
    }
    if (!good)
        spdlog::warn("a malformed record from the kernel was passed over ({} so far)", ++malformed_records_);
}

void Session::look_at_new_accounts() {
    for (const mt_account *account : tracer_.accounts()) {
        if (details_.contains(account->id))
            continue;
        ProcessDetails &details = details_[account->id];
        auto pid = static_cast<int>(account->tgid);
        // Once it has closed, /proc may speak of another process with the same pid.
        bool lives = account->state == MT_ACCOUNT_OPEN;
        if (lives)
            details.identity = read_identity(pid);
        // What exec laid out is right even when the process has gone, or has execed again.
        if (account->args_length && account->args_length <= MT_ARGS_BYTES &&
            (!lives || details.identity.cmdline.empty()))
            details.identity.cmdline = parse_command_line({account->args, account->args_length});
        auto parent = details_.find(account->parent);
        if (account->opened_by == MT_OPENED_BY_FORK && parent != details_.end()) {
            details.python = parent->second.python;
            details.sources = parent->second.sources;
        }
        bool pending = account->python.state == MT_PYTHON_PENDING;
        auto known = known_.find({account->executable.device, account->executable.inode});
        if (known != known_.end() && !pending) {
            details.python = known->second;
            details.sources = lives ? open_sources(pid) : nullptr;
        }
        // An interpreter known at exec is the executable; what a fork has inherited is mapped in it as in its parent.
        if (lives && details.python) {
            std::string path = account->opened_by == MT_OPENED_BY_FORK ? details.python->open_path(pid)
                                                                       : fmt::format("/proc/{}/exe", pid);
            details.probes = attach_probes(pid, *details.python, path);
            watch_for_end(*account, path);
        }
        if (pending && lives)
            searching_[account->id] = {Clock::now(), Clock::now()};
    }
}

// An executable that holds its interpreter has it from the start; one that loads libpython maps it a little later, a
// host program that embeds Python perhaps much later. The kernel tells when it maps code.
void Session::search_interpreters() {
    auto now = Clock::now();
    for (auto it = searching_.begin(); it != searching_.end();) {
        auto &[id, search] = *it;
        const mt_account *account = tracer_.account(id);
        if (!account || account->state != MT_ACCOUNT_OPEN) {
            it = searching_.erase(it);
            continue;
        }
        if (now < search.next) {
            ++it;
            continue;
        }
        auto python = find_python(static_cast<int>(account->tgid));
        bool awaits_c_library = python && python->awaits_c_library && now - search.since < kCLibraryWithin;
        if (awaits_c_library)
            details_[id].python =
                std::make_shared<FoundPython>(*python);  // in case it ends without one, or with one that does not tell
        if (python && !awaits_c_library && tracer_.set_python(id, python->runtime)) {
            auto pid = static_cast<int>(account->tgid);
            details_[id].python = remember(*python, python->open_path(pid));
            details_[id].probes = attach_probes(pid, *details_[id].python, python->open_path(pid));
            details_[id].sources = open_sources(pid);
            watch_for_end(*account, details_[id].python->open_path(pid));
            it = searching_.erase(it);
            continue;
        }
        if (GivenUp::instance().contains(static_cast<int>(account->tgid))) {
            it = searching_.erase(it);
            break;  // it took long: first, what else there is to do
        }
        search.next = now + (now - search.since < 1s ? kSearchEvery : kLaterSearchEvery);
        ++it;
    }
}

void Session::collect(const std::vector<const mt_account *> &accounts) {
    std::map<uint32_t, AccountData> data;
    for (const mt_account *account : accounts)
        data[account->id].account = *account;
    auto sort_in = [&data](const auto &rows, auto member) {
        for (const auto &row : rows)
            if (auto found = data.find(row.first.account); found != data.end())
                (found->second.*member).push_back(row);
    };
    sort_in(tracer_.read_charges(), &AccountData::charges);
    sort_in(tracer_.read_calls(), &AccountData::calls);
    sort_in(tracer_.read_lines(), &AccountData::lines);
    sort_in(tracer_.read_collections(), &AccountData::collections);
    sort_in(tracer_.read_copies(), &AccountData::copies);
    take_records();  // the stacks of these rows
    for (auto &[id, account] : data) {
        sum_owned_ranges(account.account);
        if (auto owners = resident_.find(id); owners != resident_.end()) {
            account.resident = std::move(owners->second);
            resident_.erase(owners);
        }
        account.imports = std::move(imports_[id]);
        imports_.erase(id);
        collected_.push_back(std::move(account));
    }
}

// Its ranges make room for others'. Those of a process that lives are kept, to be asked for (owned_ranges()).
void Session::sum_owned_ranges(const mt_account &closed) {
    if (!tracer_.settings().owners || resident_.contains(closed.id))
        return;
    ResidentOwners &owners = resident_[closed.id];
    auto present = present_.find(closed.id);
    owners.checked = present != present_.end();
    owners.bytes = owners.checked ? owned_.resident(closed.id, present->second) : owned_.resident(closed.id);
    owners.ranges = owned_.count(closed.id);
    owners.dropped = owned_.dropped(closed.id);
    if (!owners.checked)
        owned_.forget(closed.id);
}

void Session::collect_closed() {
    std::vector<const mt_account *> closed;
    uint64_t now = monotonic_ns();
    take_records();  // all of those that had closed by then
    for (const mt_account *account : tracer_.accounts())
        if (account->state == MT_ACCOUNT_CLOSED && account->closed_ns + kSettleNs < now) {
            sum_owned_ranges(*account);
            closed.push_back(account);
        }
    if (closed.size() < kCollectAt)
        return;
    collect(closed);
    for (const AccountData &account : std::span(collected_).last(closed.size())) {
        owned_.forget(account.account.id);
        tracer_.forget(account);
        GivenUp::instance().forget(static_cast<int>(account.account.tgid));
    }
    if (!MemoryBudget::instance().allows(Detail::kEnded))
        shorten_collected();
    if (collected_.size() > kLeastKept && !MemoryBudget::instance().has_room(Detail::kProcesses))
        drop_collected();
}

// Of those that have ended, which may be any number, only sums are kept.
void Session::shorten_collected() {
    for (AccountData &account : std::span(collected_).subspan(shortened_)) {
        drop_places(account);
        codes_.forget(account.account.id);
        details_[account.account.id].sources.reset();
    }
    shortened_ = collected_.size();
    malloc_trim(0);  // else it would look as if nothing had been given up
}

// Of those that have ended, the half that weighs least.
void Session::drop_collected() {
    auto keep = static_cast<ptrdiff_t>((collected_.size() + 1) / 2);
    std::nth_element(collected_.begin(), collected_.begin() + keep, collected_.end(),
                     [&](const AccountData &a, const AccountData &b) { return weight(a.account) > weight(b.account); });
    for (const AccountData &data : std::span(collected_).subspan(static_cast<size_t>(keep)))
        details_.erase(data.account.id);
    processes_left_out_ += collected_.size() - static_cast<size_t>(keep);
    collected_.erase(collected_.begin() + keep, collected_.end());
    collected_.shrink_to_fit();
    shortened_ = collected_.size();
    malloc_trim(0);
}

bool Session::all_closed() const {
    for (const mt_account *account : tracer_.accounts())
        if (account->state == MT_ACCOUNT_OPEN)
            return false;
    return true;
}

Progress Session::progress() const {
    Progress progress;
    progress.elapsed = Clock::now() - started_;
    progress.lost_events = tracer_.lost_events();
    int64_t page = getpagesize();
    for (const mt_account *account : tracer_.accounts())
        if (account->state == MT_ACCOUNT_OPEN)
            progress.rss += account->rss * page;
    auto add = [&progress, page](const std::vector<ChargeRow> &rows) {
        for (const auto &[key, charge] : rows) {
            for (int member : {MT_FILE, MT_ANON, MT_SHMEM}) {
                progress.grown += static_cast<int64_t>(charge.grown[member]) * page;
                progress.returned += static_cast<int64_t>(charge.returned[member]) * page;
            }
        }
    };
    add(tracer_.read_charges());
    for (const AccountData &account : collected_)
        add(account.charges);
    return progress;
}

std::map<std::string, uint64_t> Session::failures() const {
    auto counts = tracer_.failures();
    const std::pair<const char *, uint64_t> ours[] = {
        {"code_unreadable", codes_.incomplete()},
        {"imports_full", imports_left_out_},
        {"memory_short", MemoryBudget::instance().left_out()},
        {"processes_given_up", GivenUp::instance().times(GivenUp::kMemory)},
        {"processes_left_out", processes_left_out_},
        {"processes_unreadable", GivenUp::instance().times(GivenUp::kFiles)},
        {"record_malformed", malformed_records_},
        {"stacks_left_out", codes_.stacks_left_out()},
        {"sources_full", source_roots_ - std::min(source_roots_, kMaxSourceRoots)},
    };
    for (auto [name, count] : ours)
        if (count)
            counts[name] += count;
    for (const AccountData &data : collected_)
        if (data.resident && data.resident->dropped)
            counts["owner_ranges_full"] += data.resident->dropped;
    return counts;
}

void Session::finish() {
    look_for_jit();
    take_records();
    for (auto end = Clock::now() + kLastNaming; natives_.has_waiting() && Clock::now() < end;)
        name_native_places();
    // The last moment at which pages and counters can be asked for together.
    for (const mt_account *account : tracer_.accounts())
        if (tracer_.settings().owners && account->state == MT_ACCOUNT_OPEN)
            if (auto present = read_present_pages(static_cast<int>(account->tgid)))
                present_[account->id] = std::move(*present);
    tracer_.stop();
    for (const mt_account *account : tracer_.accounts())
        if (account->closed_by != MT_CLOSED_BY_DETACH)
            present_.erase(account->id);  // it ended between the two
    duration_ = Clock::now() - started_;
    take_records();
    look_at_new_accounts();
    collect(tracer_.accounts());
}

}  // namespace memtrace
