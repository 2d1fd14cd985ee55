// SPDX-License-Identifier: Apache-2.0
// One tracing session: from the first process followed to everything that was collected.
//
// One thread, one loop. It sleeps until the kernel has something urgent, a signal arrives, a process ends or a tick is
// due; everything else waits for the tick.
#pragma once

#include <chrono>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "collect/account_data.h"
#include "collect/tracer.h"
#include "ledger/owned_ranges.h"
#include "process/find_python.h"
#include "process/proc_files.h"
#include "symbolize/code_table.h"
#include "symbolize/native_table.h"
#include "symbolize/source_files.h"

namespace memtrace {

// What these settings listen to; lines before the calls of functions, which depend on them.
std::vector<Probed> wanted_probes(const TracerSettings &settings);

// What only /proc knows of a process, fetched while it lived.
struct ProcessDetails {
    ProcessIdentity identity;
    std::shared_ptr<const FoundPython> python;  // null: none was found; shared by all that were found alike
    // Of a process with Python; a forked child shares its parent's. Null when there were too many (kMaxSourceRoots).
    std::shared_ptr<SourceFiles> sources;
    bool jit = false;  // was on at some time: lines are approximate
    // Of those that are wanted: why the process's are not listened to; empty when they are.
    std::map<Probed, std::string> probes;

    bool listens_to(Probed what) const {
        auto found = probes.find(what);
        return found != probes.end() && found->second.empty();
    }
};

// What the status line shows. Bytes; all processes together.
struct Progress {
    std::chrono::nanoseconds elapsed{};
    int64_t rss = 0;
    int64_t grown = 0;
    int64_t returned = 0;
    uint64_t lost_events = 0;
};

// A child of ours whose program has run to its end.
struct Ending {
    uint32_t account = 0;
    uint64_t ns = 0;  // CLOCK_MONOTONIC
};

class Session {
  public:
    explicit Session(const TracerSettings &settings);

    // A live process, already looked at. False when it has gone.
    bool follow(int pid, const FoundPython &python);
    // A child of ours that will exec `command`, looked up as execvp does; with `stop_at_end`, take_ending() tells of
    // it.
    void expect(int pid, const std::string &command, bool stop_at_end);

    // One turn of the loop: takes what the kernel sent, looks after new and ended processes.
    void tick();
    int epoll_fd() const {
        return tracer_.epoll_fd();
    }
    // Whether a new process's interpreter has yet to be found: then tick often.
    bool is_searching() const {
        return !searching_.empty();
    }
    bool all_closed() const;
    // Once: the kernel is about to stop the child, and who asks must let it go on (SIGCONT).
    std::optional<Ending> take_ending() {
        return std::exchange(ending_, std::nullopt);
    }
    Progress progress() const;

    // Closes all accounts and reads the rest. Called once.
    void finish();

    // After finish():
    const std::vector<AccountData> &accounts() const {
        return collected_;
    }
    const CodeTable &codes() const {
        return codes_;
    }
    const NativeTable &natives() const {
        return natives_;
    }
    ProcessDetails &details(uint32_t account) {
        return details_[account];
    }
    const Tracer &tracer() const {
        return tracer_;
    }
    // Why the end of the expected child's program may have passed unnoticed; empty when it cannot have.
    const std::string &end_unwatched() const {
        return end_unwatched_;
    }
    // Whether it is the process that the expected child became by exec.
    bool is_expected(const mt_account &account) const {
        return expected_ && account.tgid == static_cast<uint32_t>(expected_) && account.opened_by == MT_OPENED_BY_EXEC;
    }
    // Which processes may count on memory when it is short, the largest first: those that live, the command that was to
    // be run, and then by their peak.
    std::tuple<bool, bool, int64_t> weight(const mt_account &account) const {
        return {account.closed_by != MT_CLOSED_BY_EXIT && account.closed_by != MT_CLOSED_BY_EXEC, is_expected(account),
                account.peak_rss};
    }
    // Of those that have ended, so many stay however short it is: some MiB of sums.
    static constexpr size_t kLeastKept = 1024;
    // What was missed, by name, here and in the kernel; only what is not 0.
    std::map<std::string, uint64_t> failures() const;
    // By account; of processes that live or were followed to the end, and with --owners.
    const OwnedRanges &owned_ranges() const {
        return owned_;
    }
    std::chrono::nanoseconds duration() const {
        return duration_;
    }

  private:
    using Clock = std::chrono::steady_clock;

    void take_records();
    void receive(std::span<const uint8_t> record);
    void look_at_new_accounts();
    // Attaches to the probes of a process whose interpreter is known; `path` opens its file.
    std::map<Probed, std::string> attach_probes(int pid, const FoundPython &python, const std::string &path);
    void warn_of_refusals(int pid, const FoundPython &python, const std::map<Probed, std::string> &refusals);
    bool add_import(std::span<const uint8_t> record);
    void drop_probes();
    void watch_for_end(const mt_account &account, const std::string &path);
    void look_for_jit();
    void name_native_places();
    void search_interpreters();
    void collect(const std::vector<const mt_account *> &accounts);
    void collect_closed();
    void shorten_collected();
    void drop_collected();
    void sum_owned_ranges(const mt_account &closed);
    std::shared_ptr<SourceFiles> open_sources(int pid);
    // From now on an exec of its file is known to start it. What it returns has the file's probes, read once.
    std::shared_ptr<const FoundPython> remember(FoundPython python, const std::string &path);

    Tracer tracer_;
    CodeTable codes_;
    NativeTable natives_;
    OwnedRanges owned_;
    std::map<uint32_t, std::vector<PageRange>> present_;  // at the end, by account
    std::map<uint32_t, ResidentOwners> resident_;         // of accounts that are closed
    Clock::time_point next_naming_;
    std::map<uint32_t, std::vector<ImportEvent>> imports_;  // by account
    Clock::time_point started_ = Clock::now();
    std::chrono::nanoseconds duration_{};
    std::map<uint32_t, ProcessDetails> details_;  // by account id
    struct Search {
        Clock::time_point since;
        Clock::time_point next;
    };
    std::map<uint32_t, Search> searching_;  // accounts whose interpreter is not found yet
    // By device and inode of the executable.
    std::map<std::pair<uint64_t, uint64_t>, std::shared_ptr<const FoundPython>> known_;
    std::set<std::tuple<Probed, uint64_t, uint64_t>> refused_;  // probes that the user was told of, by interpreter
    std::vector<AccountData> collected_;
    size_t shortened_ = 0;  // of the first of these, only sums are kept
    uint64_t processes_left_out_ = 0;
    uint64_t malformed_records_ = 0;
    uint64_t imports_left_out_ = 0;  // events
    size_t source_roots_ = 0;        // that were asked for
    int expected_ = 0;               // a child of ours
    bool stop_at_end_ = false;
    std::string end_unwatched_;
    std::optional<Ending> ending_;
};

}  // namespace memtrace
