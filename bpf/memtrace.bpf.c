// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/* The hooks, each a call into lib/. Which of the two resident-set hooks is loaded is userspace's choice, by what the
 * kernel offers (userspace/collect/kernel.h). */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>
/* With uprobe_multi, processes that run one interpreter share theirs; before Linux 6.6 each probe attached to takes one. */
#define BPF_USDT_MAX_SPEC_CNT 1024
#include <bpf/usdt.bpf.h>

#include "memtrace/wire.h"

#include "lib/task.h"
#include "lib/arch.h"
#include "lib/maps.h"
#include "lib/rss.h"
#include "lib/charge.h"
#include "lib/owners.h"
#include "lib/account.h"
#include "lib/frame.h"
#include "lib/thread_state.h"
#include "lib/probed_lines.h"
#include "lib/line_probe.h"
#include "lib/function_probe.h"
#include "lib/walk.h"
#include "lib/native.h"
#include "lib/copies.h"
#include "lib/own_counts.h"
#include "lib/resident.h"
#include "lib/page_fault.h"
#include "lib/collections.h"
#include "lib/imports.h"
#include "lib/syscalls.h"
#include "lib/ending.h"
#include "lib/life.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

SEC("tp_btf/rss_stat")
int BPF_PROG(on_rss_stat, struct mm_struct *mm, int member)
{
    mt_on_rss_change(mm, member);
    return 0;
}

SEC("tp_btf/rss_stat")
int BPF_PROG(on_counted_rss_stat, struct mm_struct *mm, int member, long count)
{
    mt_on_counted_rss(mm, member, count);
    return 0;
}

/* kmem:rss_stat's own record: mm_id and curr u32, member int, size long in bytes. */
struct mt_classic_rss_stat {
    mt_u64 common;
    mt_u32 mm_id;
    mt_u32 curr;
    mt_s32 member;
    mt_u32 padding;
    mt_s64 size;
};

SEC("tracepoint/kmem/rss_stat")
int on_classic_rss_stat(struct mt_classic_rss_stat *event)
{
    mt_on_classic_rss(event->mm_id, event->curr, event->member, event->size);
    return 0;
}

/* Every system call of the machine comes by here, and most are none of ours: their number says so. A tracepoint of each call's
 * own (syscalls:sys_enter_mmap) would be a perf event, which Debian's and Ubuntu's kernels keep for cap_sys_admin.
 * rt_sigaction is one of the signs that the command which memtrace run has started is at its end (lib/ending.h). */
SEC("tp_btf/sys_enter")
int BPF_PROG(enter_call, struct pt_regs *regs, long number)
{
    mt_u32 call = mt_call_of(number);
    if (call)
        return mt_enter_call(call, mt_call_argument(regs, 0), mt_call_argument(regs, 1), mt_call_argument(regs, 2));
    return number == mt_sigaction_number ? mt_on_signal_change(mt_call_argument(regs, 1)) : 0;
}

SEC("tp_btf/sys_exit")
int BPF_PROG(leave_call, struct pt_regs *regs, long result)
{
    return mt_call_of(mt_call_number(regs)) ? mt_leave_call(result) : 0;
}

SEC("uprobe")
int on_finalizing(struct pt_regs *context)
{
    return mt_on_finalizing();
}

/* Only with the line engine. Userspace attaches it to the processes followed, one by one. */
SEC("usdt")
int on_line(struct pt_regs *context)
{
    return mt_on_line(context);
}

/* In place of on_line, to measure what the probe costs whatever is done with it (scripts/bench). */
SEC("usdt")
int on_line_empty(struct pt_regs *context)
{
    return 0;
}

/* With --calls. */
SEC("usdt")
int on_function_entry(struct pt_regs *context)
{
    return mt_on_function_entry(context);
}

/* Attached to every process followed whose interpreter has them: one program for both ends of a pair, so that one link
 * holds both. */
SEC("usdt")
int on_gc(struct pt_regs *context)
{
    return bpf_usdt_cookie(context) == MT_PROBE_START ? mt_on_gc_start(context) : mt_on_gc_done(context);
}

/* With --imports. */
SEC("usdt")
int on_import(struct pt_regs *context)
{
    return mt_on_import(context, bpf_usdt_cookie(context) == MT_PROBE_START);
}

SEC("tp_btf/page_fault_user")
int BPF_PROG(on_page_fault_user, unsigned long address, struct pt_regs *regs, unsigned long error_code)
{
    return mt_on_page_fault(address, error_code, 0);
}

SEC("tp_btf/page_fault_kernel")
int BPF_PROG(on_page_fault_kernel, unsigned long address, struct pt_regs *regs, unsigned long error_code)
{
    return mt_on_page_fault(address, error_code, 1);
}

/* Where there are no such tracepoints: the software event PAGE_FAULTS, each time. It does not say what the fault was for. */
SEC("perf_event")
int on_page_fault_event(struct bpf_perf_event_data *event)
{
    return mt_on_page_fault(event->addr, 0, 0);
}

/* With --owners. */
SEC("tp_btf/mm_page_alloc")
int BPF_PROG(on_page_alloc, void *page, unsigned int order, mt_u32 flags)
{
    return mt_on_page_alloc(order, flags);
}

SEC("tp_btf/sched_process_fork")
int BPF_PROG(on_fork, struct task_struct *parent, struct task_struct *child)
{
    return mt_on_fork(parent, child);
}

SEC("tp_btf/sched_process_exec")
int BPF_PROG(on_exec, struct task_struct *task, int old_tid)
{
    return mt_on_exec(task, old_tid);
}

SEC("tp_btf/sched_process_exit")
int BPF_PROG(on_exit, struct task_struct *task)
{
    return mt_on_exit(task);
}

SEC("iter/task")
int on_task(struct bpf_iter__task *context)
{
    struct task_struct *task = context->task;
    return task ? mt_on_task(task) : 0;
}
