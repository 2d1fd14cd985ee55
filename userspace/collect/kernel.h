// SPDX-License-Identifier: Apache-2.0
// What this kernel and this user allow, asked once, before anything is started.
#pragma once

#include <string>

namespace memtrace {

// Where resident-set changes are taken from.
enum class RssSource {
    kBtf,      // tp_btf/rss_stat: by mm_struct, cheap; needs the counters of Linux 6.2
    kClassic,  // tracepoint/kmem/rss_stat: any kernel
};

// Throws Failure with one sentence that says what is missing and what to do.
void require_permissions();
void require_bpf();

// The best source that the running kernel's BTF supports.
RssSource choose_rss_source();

std::string kernel_release();

}  // namespace memtrace
