// SPDX-License-Identifier: Apache-2.0
// What this kernel and this user allow: asked here and nowhere else, by those who must know before anything is started
// (require_...) and by those who explain it (memtrace doctor).
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "collect/kernel_types.h"

namespace memtrace {

// One question, and its answer.
struct Check {
    std::string name;
    std::optional<bool> ok;  // null: this user may not look
    bool required = true;    // nothing can be traced without it
    std::string found;       // what there is, or what is wrong
    std::string remedy;      // what to do about it, when it is not ok
};

std::vector<Check> check_kernel();
std::vector<Check> check_user();

// USDT probes, which collections, calls, imports and the line engine need. Not required.
Check check_probes();

// Throw Failure with one sentence that says what is missing and what to do.
void require_permissions();
void require_bpf(RssSource source);

std::string kernel_release();
bool kernel_is_before(int major, int minor);

}  // namespace memtrace
