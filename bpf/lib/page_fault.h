/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Where a page fault is, from before the kernel handles it: with --owners, and before Linux 6.2 (lib/own_counts.h). */
#ifndef MEMTRACE_BPF_PAGE_FAULT_H
#define MEMTRACE_BPF_PAGE_FAULT_H

/* What the fault before has changed is charged; what this one will change is charged at the next. */
static __always_inline void mt_settle_and_move(mt_u32 tid)
{
    struct mt_account *account = mt_current_account();
    struct mt_thread *thread = bpf_map_lookup_elem(&threads, &tid);
    if (!account || !thread)
        return;
    mt_settle(account->id, tid);
    if (!thread->call) /* within a call it is at the call's place */
        mt_remember_place(account, thread, tid);
}

/* From tp_btf/page_fault_user, and page_fault_kernel: read(2) into new memory faults in the kernel. */
static __always_inline int mt_on_page_fault(mt_u64 address, mt_u64 error_code, int in_kernel)
{
    struct task_struct *task = mt_current_task();
    /* Not the kernel's own memory; and where faults are off, as in a BPF program that reads the process, nothing comes
     * of it. */
    if ((mt_s64)address < 0 || mt_of_task(task, pagefault_disabled) > MT_FAULTS_OFF_TO_READ)
        return 0;
    mt_u32 tid = bpf_get_current_pid_tgid();
    struct mt_thread *thread = bpf_map_lookup_elem(&threads, &tid);
    if (!thread)
        thread = mt_current_account() ? mt_thread_row(tid) : 0;
    if (!thread)
        return 0;
    if (mt_has_own_counts())
        mt_settle_and_move(tid);
    if (!mt_owners)
        return 0;
    thread->fault_address = address;
    thread->fault_count = mt_fault_count(task);
    thread->fault_copies = MT_COPY_NONE;
    struct mt_account *account = mt_writes_to_present(error_code) ? mt_current_account() : 0;
    if (account) {
        thread->fault_copies = MT_COPY_EXPECTED;
        /* The kernel writes data; and the program, reading, might fault and so be due while it runs. */
        thread->copy_write = in_kernel ? MT_WRITE_DATA : mt_what_lies_at(&account->python, address);
        if (thread->collection_start_ns)
            thread->copy_write |= MT_WRITE_IN_COLLECTION;
    }
    return 0;
}

#endif
