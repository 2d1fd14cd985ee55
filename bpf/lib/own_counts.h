/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Before Linux 6.2 a thread keeps changes to itself (SPLIT_RSS_COUNTING, mm/memory.c): they reach the address space's
 * counters, and rss_stat, once in 64 faults, before it unmaps, and when it ends. An account that is right to the page adds
 * what threads keep; and whoever is charged when they are flushed has mostly changed nothing.
 *
 * So at each page fault a thread's own counters are compared with what they were at its last one, and the difference is
 * charged to where that was:
 *
 *     event                         own counter   charged
 *     fault of line 7               0
 *     fault of line 7               1             1 page to line 7
 *     munmap of line 9 begins       2             1 page to line 7
 *     rss_stat: 2 pages flushed     2, then 0     nothing: all of it is charged
 *     rss_stat: 40 pages unmapped   0             -40 pages to line 9
 */
#ifndef MEMTRACE_BPF_OWN_COUNTS_H
#define MEMTRACE_BPF_OWN_COUNTS_H

/* struct task_rss_stat, linux/mm_types_task.h of 5.10 to 6.1 */
struct mt_own_counts {
    mt_s32 faults; /* since the last flush */
    mt_s32 pages[MT_MEMBERS];
};

struct task_struct___before_6_2 {
    struct mt_own_counts rss_stat;
} __attribute__((preserve_access_index));

#define MT_FAULTS_TO_FLUSH 64 /* TASK_RSS_EVENTS_THRESH, mm/memory.c: the fault after next flushes */

static __always_inline int mt_has_own_counts(void)
{
    return bpf_core_field_exists(struct task_struct___before_6_2, rss_stat);
}

static __always_inline int mt_read_own_counts(struct task_struct *task, struct mt_own_counts *own)
{
    return bpf_core_read(own, sizeof(*own), &((struct task_struct___before_6_2 *)task)->rss_stat);
}

/* No variable index: verifiers before Linux 5.12 allow none into the stack. */
static __always_inline mt_s32 mt_own_count(const struct mt_own_counts *own, mt_u32 member)
{
    mt_s32 pages = 0;
#pragma clang loop unroll(full)
    for (mt_u32 i = 0; i < MT_MEMBERS; i++)
        if (i == member)
            pages = own->pages[i];
    return pages;
}

/* Charges a change of the thread's own counters to where it was when they were last looked at. */
static __always_inline void mt_charge_own_change(struct mt_account *account, struct mt_thread *thread, mt_u32 member,
                                                 mt_s64 pages)
{
    struct mt_charge_key key = {.stack = thread->place_stack,
                                .account = account->id,
                                .owner = thread->place_owner,
                                .call = thread->place_call};
    if (key.owner == MT_OWNER_STACK && !key.stack)
        key.owner = MT_OWNER_LINE_UNKNOWN; /* it was nowhere yet */
    if (member != MT_SWAP && thread->call)
        thread->call_rss_pages += pages;
    if (mt_owners && pages > 0 && member != MT_SWAP) {
        if (thread->fault_address && !thread->place_call)
            mt_own_pages(thread, &key, member, pages);
        mt_uncount_copy(account->id, thread);
    }
    mt_charge_pages(account, &key, member, pages);
}

/* Looks at the own counters of `task`, whose row is `thread`. Its thread may be at it too when the task is not the running
 * one: what both have charged is taken back at the next look. */
static __always_inline void mt_look_at_own_counts(struct mt_account *account, struct mt_thread *thread,
                                                  struct task_struct *task)
{
    struct mt_own_counts own;
    if (mt_read_own_counts(task, &own))
        return;
#pragma clang loop unroll(full)
    for (mt_u32 member = 0; member < MT_MEMBERS; member++) {
        mt_s64 pages = own.pages[member] - thread->own[member];
        if (pages) {
            thread->own[member] += pages;
            mt_charge_own_change(account, thread, member, pages);
            __sync_fetch_and_add(&account->own_changes, 1);
        }
    }
}

/* The same, of the running thread; a function of its own, that the verifier looks at once. */
__noinline int mt_settle(mt_u32 account_id, mt_u32 tid)
{
    struct mt_account *account = mt_find_account(account_id);
    struct mt_thread *thread = bpf_map_lookup_elem(&threads, &tid);
    if (account && thread)
        mt_look_at_own_counts(account, thread, mt_current_task());
    return 0;
}

/* Where the thread is, and will be found to have been at the next look. */
static __always_inline void mt_remember_place(struct mt_account *account, struct mt_thread *thread, mt_u32 tid)
{
    mt_u64 stack = 0;
    thread->account = account->id;
    thread->place_owner = mt_find_place(account, thread, tid, 1, &stack);
    thread->place_stack = stack;
    thread->place_call = MT_CALL_NONE;
}

/* Whether the change of the address space's counter by `change`, which rss_stat tells of, is a flush of the running
 * thread's own one, `pages`; that is set to 0 only after the event. */
static __always_inline int mt_is_flush(const struct mt_own_counts *own, mt_s32 pages, mt_s64 change)
{
    return pages && (own->faults > MT_FAULTS_TO_FLUSH + 1 || pages == change);
}

/* From rss_stat: returns 1 when it was a flush, and is dealt with. */
static __always_inline int mt_take_flush(struct mt_account *account, mt_u32 tid, mt_u32 member, mt_s64 change)
{
    struct task_struct *task = mt_current_task();
    struct mt_own_counts own;
    if ((mt_u64)mt_of_task(task, mm) != account->mm || mt_read_own_counts(task, &own))
        return 0;
    mt_u64 at = mt_member_index(member);
    mt_s64 pages = mt_own_count(&own, member);
    if (!mt_is_flush(&own, pages, change))
        return 0;
    __sync_fetch_and_add(&account->folded[at], pages);
    __sync_fetch_and_add(&account->own_changes, 1);
    struct mt_thread *thread = mt_thread_row(tid);
    if (!thread) {
        struct mt_charge_key key = {.account = account->id, .owner = MT_OWNER_LINE_UNKNOWN};
        mt_charge_pages(account, &key, member, pages);
        return 1;
    }
    pages -= thread->own[at];
    thread->own[at] = 0;
    if (pages)
        mt_charge_own_change(account, thread, member, pages);
    return 1;
}

/* An exec by another thread than the first makes that one end, and then takes its number (de_thread(), fs/exec.c): what is
 * known of its own counters goes with it. */
struct signal_struct___before_5_17 {
    struct task_struct *group_exit_task;
} __attribute__((preserve_access_index));

struct signal_struct___before_6_2 {
    struct task_struct *group_exec_task;
} __attribute__((preserve_access_index));

static __always_inline void mt_hand_over_own_counts(struct task_struct *first, mt_u32 tid)
{
    struct signal_struct *signal = BPF_CORE_READ(first, signal);
    struct task_struct *heir;
    if (bpf_core_field_exists(struct signal_struct___before_6_2, group_exec_task))
        heir = BPF_CORE_READ((struct signal_struct___before_6_2 *)signal, group_exec_task);
    else
        heir = BPF_CORE_READ((struct signal_struct___before_5_17 *)signal, group_exit_task);
    mt_u32 heir_tid = heir ? BPF_CORE_READ(heir, pid) : 0;
    struct mt_thread *thread = heir_tid != tid ? bpf_map_lookup_elem(&threads, &heir_tid) : 0;
    if (thread)
        bpf_map_update_elem(&threads, &tid, thread, BPF_ANY);
}

/* A thread that was there before its account: its own counters are part of the opening balance. */
static __always_inline void mt_open_own_counts(struct mt_account *account, struct task_struct *task)
{
    mt_u32 tid = BPF_CORE_READ(task, pid);
    struct mt_own_counts own;
    if (bpf_map_lookup_elem(&threads, &tid) || mt_read_own_counts(task, &own))
        return; /* it has had an event already, and was taken to begin with 0 */
    struct mt_thread *thread = mt_thread_row(tid);
    if (!thread)
        return;
    thread->account = account->id;
    thread->place_owner = MT_OWNER_LINE_UNKNOWN;
#pragma clang loop unroll(full)
    for (mt_u32 member = 0; member < MT_MEMBERS; member++) {
        thread->own[member] = own.pages[member];
        __sync_fetch_and_add(&account->start[member], own.pages[member]);
        if (member != MT_SWAP)
            __sync_fetch_and_add(&account->rss, own.pages[member]);
    }
}

/* Before an account is closed by a detach: the last look, and what its threads have is part of the closing balance. */
static __always_inline void mt_close_own_counts(struct mt_account *account, struct task_struct *task)
{
    mt_u32 tid = BPF_CORE_READ(task, pid);
    struct mt_own_counts own;
    if (mt_read_own_counts(task, &own))
        return;
    struct mt_thread *thread = mt_thread_row(tid);
    if (thread)
        mt_look_at_own_counts(account, thread, task);
#pragma clang loop unroll(full)
    for (mt_u32 member = 0; member < MT_MEMBERS; member++)
        account->own[member] += own.pages[member];
}

#endif
