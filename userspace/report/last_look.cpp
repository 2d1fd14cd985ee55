// SPDX-License-Identifier: Apache-2.0
#include "report/last_look.h"

#include <unistd.h>

#include "base/failure.h"
#include "ledger/ledger.h"

namespace memtrace {

namespace {

std::optional<Explanation> explain_traced(Session &session, const mt_account &account) {
    const auto &python = session.details(account.id).python;
    if (!python || python->runtime.state != MT_PYTHON_READY)
        return std::nullopt;
    Traced traced;
    if (session.tracer().settings().owners)
        traced.first_touch = [&session, id = account.id](uint64_t address) {
            auto owner = session.owned_ranges().owner_of(id, address);
            return owner ? in_words(place_of_page(*owner, session.codes(), session.natives())) : "";
        };
    try {
        return explain(static_cast<int>(account.tgid), *python, false, std::move(traced));
    } catch (const Failure &) {
        return std::nullopt;  // it has ended since
    }
}

}  // namespace

void LastLook::take_early(Session &session, uint32_t id) {
    const mt_account *account = session.tracer().account(id);
    if (!account)
        return;
    int64_t rss_bytes = account->rss * getpagesize();
    if (auto explanation = explain_traced(session, *account))
        early_[id] = {std::move(*explanation), rss_bytes, true};
}

std::optional<TakenLook> LastLook::take(Session &session, const mt_account &account, int64_t rss_bytes) {
    constexpr std::chrono::seconds kLongest{10};
    auto now = std::chrono::steady_clock::now();
    started_ = started_.value_or(now);
    if (auto early = early_.find(account.id); early != early_.end())
        return std::move(early->second);
    bool has_ended = account.closed_by == MT_CLOSED_BY_EXIT || account.closed_by == MT_CLOSED_BY_EXEC;
    if (has_ended || now - *started_ > kLongest)
        return std::nullopt;
    auto explanation = explain_traced(session, account);
    if (!explanation)
        return std::nullopt;
    return TakenLook{std::move(*explanation), rss_bytes, false};
}

}  // namespace memtrace
