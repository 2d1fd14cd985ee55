// SPDX-License-Identifier: Apache-2.0
#include "symbolize/native_table.h"

#include <unistd.h>

#include <algorithm>
#include <cstring>

namespace memtrace {

namespace {

constexpr size_t kBatch = 16;    // stacks at once, 8 KiB each; a look-up among a million symbols takes 20 ms
constexpr int kMaxFailures = 3;  // then this process's files are read no more

// What is asked to be checked, given what the name of this one held already.
mt_native_site answer_to(const mt_native_record &record, const NativePlace *place) {
    const auto pages = uint64_t{MT_NATIVE_WORTH_BYTES} / static_cast<uint64_t>(getpagesize());
    mt_native_site site{};
    site.pages = pages;
    if (!place)
        site.state = MT_NATIVE_HIDDEN;
    else if (!place->return_address_at)
        site.state = record.check_at == MT_NO_FIELD ? MT_NATIVE_KNOWN : MT_NATIVE_HIDDEN;
    else if (record.check_at == MT_NO_FIELD || record.check_at == *place->return_address_at)
        site = {pages, MT_NATIVE_CHECKED, *place->return_address_at};
    else
        site.state = MT_NATIVE_HIDDEN;  // the word it looked at is not what decides here
    return site;
}

}  // namespace

bool NativeTable::add(std::span<const uint8_t> bytes) {
    mt_native_record record;
    if (bytes.size() < sizeof(record))
        return false;
    std::memcpy(&record, bytes.data(), sizeof(record));
    if (record.stack_bytes > sizeof(record.bytes))
        return false;
    if (failures_[record.record.account] < kMaxFailures)
        waiting_[record.record.account].push_back(record);
    return true;
}

std::vector<uint32_t> NativeTable::waiting() const {
    std::vector<uint32_t> accounts;
    for (const auto &[account, records] : waiting_)
        accounts.push_back(account);
    return accounts;
}

std::vector<NativeTable::Answer> NativeTable::name(uint32_t account, int pid) {
    std::vector<Answer> answers;
    std::vector<mt_native_record> &all = waiting_[account];
    std::vector<mt_native_record> batch(all.begin(),
                                        all.begin() + static_cast<ptrdiff_t>(std::min(all.size(), kBatch)));
    all.erase(all.begin(), all.begin() + static_cast<ptrdiff_t>(batch.size()));
    if (all.empty())
        waiting_.erase(account);
    auto places = unwind_native_stacks(pid, batch);
    if (places.empty()) {
        if (++failures_[account] == kMaxFailures)
            waiting_.erase(account);
        return answers;
    }
    for (size_t i = 0; i < batch.size(); i++) {
        mt_native_site site = answer_to(batch[i], places[i] ? &*places[i] : nullptr);
        answers.emplace_back(batch[i].key, site);
        if (places[i] && site.state != MT_NATIVE_HIDDEN)
            places_.insert_or_assign({account, batch[i].stack}, *places[i]);
    }
    return answers;
}

const NativePlace *NativeTable::find(uint32_t account, uint64_t stack) const {
    auto found = places_.find({account, stack});
    return found == places_.end() ? nullptr : &found->second;
}

}  // namespace memtrace
