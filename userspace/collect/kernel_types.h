// SPDX-License-Identifier: Apache-2.0
// What the running kernel's BTF says of its types and tracepoints: which BPF programs fit it.
#pragma once

namespace memtrace {

// Where resident-set changes are taken from.
enum class RssSource {
    kBtf,      // tp_btf/rss_stat: by mm_struct, cheap; Linux 6.2 and later, whose counters it reads by itself
    kCounted,  // tp_btf/rss_stat before: it gives the counter too
    kClassic,  // tracepoint/kmem/rss_stat: any kernel; sums all CPUs at each event
};

struct KernelTypes {
    RssSource rss_source = RssSource::kClassic;  // the best
    // Before Linux 6.2 each thread keeps changes to itself (bpf/lib/own_counts.h): every page fault is looked at.
    bool threads_keep_counts = false;
    bool fault_tracepoints = false;  // exceptions:page_fault_*, which are x86-64's; else the software event PAGE_FAULTS
    bool page_alloc = false;         // kmem:mm_page_alloc
};

// Read once; all false without BTF. Thread-safe.
const KernelTypes &kernel_types();

// The hook's name.
const char *name_of(RssSource source);

}  // namespace memtrace
