// SPDX-License-Identifier: Apache-2.0
// All native places that the BPF programs sent, and their names.
//
// Not thread-safe. A place is named while its process lives: ask often. What was not named in time has no name.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <utility>
#include <vector>

#include "memtrace/wire.h"
#include "symbolize/native_stack.h"

namespace memtrace {

class NativeTable {
  public:
    // Takes a record from the ring buffer. Returns false for one that is malformed.
    bool add(std::span<const uint8_t> record);

    bool has_waiting() const {
        return !waiting_.empty();
    }
    // The accounts of those that wait.
    std::vector<uint32_t> waiting() const;

    using Answer = std::pair<mt_native_key, mt_native_site>;
    // Names what waits of this account, whose process is `pid`. Returns what the BPF programs are to know from now on.
    std::vector<Answer> name(uint32_t account, int pid);
    // What waits of an account whose process has gone.
    void drop(uint32_t account) {
        waiting_.erase(account);
    }

    // Null when it was not named. Owned by the table.
    const NativePlace *find(uint32_t account, uint64_t stack) const;

  private:
    std::map<uint32_t, std::vector<mt_native_record>> waiting_;  // by account
    std::map<std::pair<uint32_t, uint64_t>, NativePlace> places_;
    std::map<uint32_t, int> failures_;  // of reading an account's files
};

}  // namespace memtrace
