// SPDX-License-Identifier: Apache-2.0
#include "report/last_look.h"

#include <fmt/core.h>
#include <unistd.h>

#include "base/failure.h"
#include "base/memory_budget.h"
#include "ledger/ledger.h"

namespace memtrace {

namespace {

// Of a process that has ended, and that nothing was seen of before.
std::string why_not_looked_at(const Session &session, const mt_account &account) {
    if (account.closed_by == MT_CLOSED_BY_EXEC)
        return "it became another program";
    if (!session.is_expected(account))
        return "it had ended";
    if (session.end_unwatched().empty())
        return "it was not seen to run to its end, as when it ends by os._exit(), by a signal or by a crash";
    return fmt::format(
        "its end was not noticed: {}, and it gave no SIGINT back then, as CPython does unless SIGINT was ignored, as "
        "in jobs that a script starts in the background, or the program ends by os._exit() or a signal",
        session.end_unwatched());
}

uint64_t monotonic_ns() {
    return static_cast<uint64_t>(std::chrono::nanoseconds(std::chrono::steady_clock::now().time_since_epoch()).count());
}

}  // namespace

Look LastLook::explain_traced(Session &session, const mt_account &account, int64_t rss_bytes,
                              bool at_programs_end) const {
    const auto &python = session.details(account.id).python;
    if (!python)
        return {std::nullopt, "no CPython was found in it", std::nullopt};
    if (python->runtime.state != MT_PYTHON_READY)
        return {std::nullopt, python->refusal, std::nullopt};
    Traced traced;
    if (session.tracer().settings().owners)
        traced.first_touch = [&session, id = account.id](uint64_t address) {
            auto owner = session.owned_ranges().owner_of(id, address);
            return owner ? in_words(place_of_page(*owner, session.codes(), session.natives())) : "";
        };
    try {
        auto stop_when_told = [this] {
            if (is_to_end_())
                fail("memtrace was told to end, and did not look any further");
        };
        Explanation explanation =
            explain(static_cast<int>(account.tgid), *python, false, std::move(traced), stop_when_told);
        return {TakenLook{std::move(explanation), rss_bytes, at_programs_end}, "", std::nullopt};
    } catch (const Failure &failure) {
        return {std::nullopt, failure.what(), std::nullopt};  // it has ended since, for one
    }
}

void LastLook::take_early(Session &session, const Ending &ending, const std::function<void()> &let_go) {
    Look look;
    if (const mt_account *account = session.tracer().account(ending.account))
        look = explain_traced(session, *account, account->rss * getpagesize(), true);
    let_go();
    look.held_ns = monotonic_ns() - ending.ns;
    early_[ending.account] = std::move(look);
}

Look LastLook::take(Session &session, const mt_account &account, int64_t rss_bytes) {
    if (!wanted_)
        return {std::nullopt, "--no-look was given", std::nullopt};
    auto now = std::chrono::steady_clock::now();
    started_ = started_.value_or(now);
    if (auto early = early_.find(account.id); early != early_.end())
        return std::move(early->second);
    if (account.closed_by == MT_CLOSED_BY_EXIT || account.closed_by == MT_CLOSED_BY_EXEC)
        return {std::nullopt, why_not_looked_at(session, account), std::nullopt};
    if (!MemoryBudget::instance().allows(Detail::kSources))
        return {std::nullopt,
                fmt::format("memtrace keeps to {} MiB of memory (--max-memory), and has used most of that",
                            MemoryBudget::instance().limit() >> 20),
                std::nullopt};
    if (now - *started_ > longest_)
        return {std::nullopt,
                fmt::format("looking at the processes before it had taken {} s, which is all that is spent on that; "
                            "--look-seconds gives it more",
                            longest_.count()),
                std::nullopt};
    return explain_traced(session, account, rss_bytes, false);
}

}  // namespace memtrace
