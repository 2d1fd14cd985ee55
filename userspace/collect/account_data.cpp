// SPDX-License-Identifier: Apache-2.0
#include "collect/account_data.h"

#include <algorithm>
#include <tuple>
#include <utility>

namespace memtrace {

namespace {

void add(mt_charge &sum, const mt_charge &more) {
    for (int member = 0; member < MT_MEMBERS; member++) {
        sum.grown[member] += more.grown[member];
        sum.returned[member] += more.returned[member];
    }
    sum.events += more.events;
    if (more.last_sequence >= sum.last_sequence) {
        sum.last_sequence = more.last_sequence;
        sum.rss_after = more.rss_after;
    }
    sum.rss_peak = std::max(sum.rss_peak, more.rss_peak);
}

void add(mt_call_sum &sum, const mt_call_sum &more) {
    sum.count += more.count;
    sum.length_bytes += more.length_bytes;
    sum.rss_pages += more.rss_pages;
}

void add(uint64_t &sum, uint64_t more) {
    sum += more;
}

// One row for each `what`, with a stack that never arrived.
template <typename Rows, typename What>
void drop_stacks(Rows &rows, What what) {
    std::map<decltype(what(rows.front().first)), typename Rows::value_type> sums;
    for (auto &[key, value] : rows) {
        auto [at, is_new] = sums.try_emplace(what(key), key, value);
        at->second.first.stack = 0;
        if (!is_new)
            add(at->second.second, value);
    }
    Rows kept;
    for (auto &[name, row] : sums)
        kept.push_back(std::move(row));
    rows = std::move(kept);
}

}  // namespace

void drop_places(AccountData &data) {
    drop_stacks(data.charges, [](const mt_charge_key &key) { return std::pair(key.owner, key.call); });
    drop_stacks(data.calls, [](const mt_call_key &key) { return std::pair(key.owner, key.kind); });
    drop_stacks(data.copies, [](const mt_charge_key &key) { return std::pair(key.owner, key.call); });
    data.lines = {};
    data.imports = {};
}

}  // namespace memtrace
