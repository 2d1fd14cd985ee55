// SPDX-License-Identifier: Apache-2.0
// The BPF programs, attached, and their maps as values. The only place that talks to the kernel's side.
//
//      follow(pid) / expect(pid)            accounts(), read_charges(), read_calls()
//            │                                          ▲
//      ──────▼──────────────────────────────────────────┴───────  kernel
//        iterator opens the account   hooks charge it   closed by exit, exec or stop()
//
// Not thread-safe: one thread loads, polls and reads. Throws Failure where the kernel refuses.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "collect/account_data.h"
#include "collect/probe_links.h"
#include "collect/programs.h"
#include "memtrace/wire.h"

struct ring_buffer;
struct bpf_link;

namespace memtrace {

struct ProgramCost {
    std::string name;
    uint64_t runs = 0;
    uint64_t run_ns = 0;
};

class Tracer {
  public:
    explicit Tracer(const TracerSettings &settings);
    ~Tracer();

    // Opens the account of a live process. False when it has gone, or no slot is free.
    bool follow(int pid, const mt_python &python);
    // The account will be opened when this process, a child of ours, execs.
    void expect(int pid);
    // To be told, by MT_RECORD_ENDING, when the program of an expected child has run to its end; it is stopped then.
    void stop_at_end(int pid);
    // The same, also by the entry of the function at this offset of the file that `path` opens. At its end the word at
    // `finalizing` is not 0; 0: there is none. Empty when it is attached to, else a clause that says why not.
    std::string stop_at_call(int pid, const std::string &path, uint64_t offset, uint64_t finalizing);
    // From now on an exec of this file is known to start this interpreter, whose addresses are as the file has them.
    void remember_interpreter(const mt_file_id &executable, const mt_python &python);
    // CPython's own, in processes that are followed.
    ProbeLinks &probes() {
        return probes_;
    }
    // Closes all accounts. The hooks charge nothing from then on; the destructor detaches them, in some 0.1 s.
    void stop();

    // Readable when the kernel has something urgent for poll().
    int epoll_fd() const;
    // Hands over every waiting record; the span is valid during the call.
    void poll(const std::function<void(std::span<const uint8_t>)> &handler);

    // The rows that are in use, open or closed. The kernel goes on changing them; a row is this account's until
    // forget().
    std::vector<const mt_account *> accounts() const;
    // The row of this account; null when its slot has been given to another.
    const mt_account *account(uint32_t id) const;
    // Says where the interpreter of an open account is; false when the account was closed meanwhile.
    bool set_python(uint32_t account, const mt_python &python);

    // What userspace has found out about native code of an account.
    void set_native_site(const mt_native_key &key, const mt_native_site &site);

    std::vector<ChargeRow> read_charges() const;
    std::vector<CallRow> read_calls() const;
    std::vector<LineRow> read_lines() const;
    std::vector<CollectionRow> read_collections() const;
    std::vector<CopyRow> read_copies() const;
    // Removes what was read of a closed account, and lets its slot be used again.
    void forget(const AccountData &closed);

    // What was missed, by name; only what is not 0.
    std::map<std::string, uint64_t> failures() const;
    // All that failures() may have.
    static std::vector<std::string> failure_names();
    // Of failures(): events whose bytes or calls are missing from the figures.
    uint64_t lost_events() const;
    // Whether the line engine had no room for a thread: how often lines ran is not known then.
    bool lost_line_hits() const;
    // Kernel memory that the maps take, as the kernel accounts for it; null when it does not tell.
    std::optional<int64_t> map_bytes() const;
    // Filled in while kernel.bpf_stats_enabled is 1.
    std::vector<ProgramCost> program_costs() const;
    const TracerSettings &settings() const {
        return settings_;
    }

  private:
    void run_command(mt_command command);
    void run_iterator();
    void attach_page_faults();
    void close_what_threads_keep();
    void open_rings();

    struct Destroy {
        void operator()(ring_buffer *ring) const;
        void operator()(bpf_link *link) const;
    };

    using Link = std::unique_ptr<bpf_link, Destroy>;

    TracerSettings settings_;
    Programs programs_;
    ProbeLinks probes_;
    std::unique_ptr<ring_buffer, Destroy> ring_;
    mt_account *accounts_ = nullptr;  // the accounts map, shared with the kernel
    size_t accounts_bytes_ = 0;
    std::vector<Link> links_;
    std::function<void(std::span<const uint8_t>)> handler_;
};

}  // namespace memtrace
