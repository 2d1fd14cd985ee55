/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* A resident-set change: whose is it? */
#ifndef MEMTRACE_BPF_RESIDENT_H
#define MEMTRACE_BPF_RESIDENT_H

#define MT_PF_MEMALLOC 0x00000800 /* linux/sched.h: this task is reclaiming memory right now */
#define MT_PF_KTHREAD 0x00200000

/* A thread tells of the calls that it enters and leaves (lib/syscalls.h), but where kernels are preemptible some are passed
 * over: whenever it has preempted, on its CPU, another at the very same program (prog->active, __bpf_trace_run() in
 * kernel/trace/bpf_trace.c). The registers with which it has entered the kernel know better. */
static __always_inline mt_u32 mt_call_of(mt_u32 number)
{
    for (mt_u32 call = MT_CALL_BRK; call < MT_CALLS; call++)
        if (mt_call_numbers[call] == number)
            return call;
    return MT_CALL_NONE;
}

/* Whether the thread is still in the call that it was seen to enter. */
static __always_inline int mt_is_in_call(struct mt_account *account, struct mt_thread *thread)
{
    if (!thread->call)
        return 0;
    struct pt_regs *regs = mt_user_registers();
    if (!regs || mt_call_of(mt_system_call_number(regs)) == thread->call)
        return 1;
    thread->call = MT_CALL_NONE;
    __sync_fetch_and_add(&account->calling, -1);
    return 0;
}

/* The call in which the running thread, which was not seen to enter one, gives pages back. */
static __always_inline mt_u32 mt_unseen_call(void)
{
    struct pt_regs *regs = mt_user_registers();
    return regs ? mt_call_of(mt_system_call_number(regs)) : MT_CALL_NONE;
}

/* Who changes an address space that is not its own: the kernel, which takes pages; memtrace, whose probes are breakpoints that
 * the kernel writes into a private copy of the file's page; or a debugger, say. */
static __always_inline mt_u32 mt_outsider(mt_u32 flags, mt_s64 pages)
{
    if (pages < 0 && flags & (MT_PF_MEMALLOC | MT_PF_KTHREAD))
        return MT_OWNER_RECLAIM;
    if (mt_tracer_tgid && bpf_get_current_pid_tgid() >> 32 == mt_tracer_tgid)
        return MT_OWNER_TRACER;
    return MT_OWNER_OTHER_PROCESS;
}

/* Charges a change to whoever made it. `thread` is the running thread's row if it has one. */
static __always_inline void mt_charge_current(struct mt_account *account, struct mt_thread *thread, mt_u32 tid,
                                              mt_u32 member, mt_s64 pages)
{
    struct mt_charge_key key = {.account = account->id};
    struct task_struct *task = mt_current_task();
    mt_u32 flags = mt_of_task(task, flags);

    if ((mt_u64)mt_of_task(task, mm) != account->mm || flags & MT_PF_KTHREAD) {
        key.owner = mt_outsider(flags, pages);
    } else if (pages < 0 && flags & MT_PF_MEMALLOC) {
        key.owner = MT_OWNER_RECLAIM;
    } else {
        if (!thread)
            thread = mt_thread_row(tid);
        if (!thread) {
            key.owner = MT_OWNER_LINE_UNKNOWN;
        } else if (mt_is_in_call(account, thread)) {
            key.owner = thread->call_owner;
            key.stack = thread->call_stack;
            key.call = thread->call;
            if (member != MT_SWAP)
                thread->call_rss_pages += pages;
        } else {
            thread->account = account->id;
            /* A fault on a file maps the pages around it too: it is counted as one. */
            mt_u64 weight = member == MT_FILE ? 1 : pages < 0 ? -pages : pages;
            key.owner = mt_find_place(account, thread, tid, weight, &key.stack);
            if (pages < 0)
                key.call = mt_unseen_call();
        }
        /* Of what comes by no fault, mt_own_called has some; the others' owner is not known. */
        if (mt_owners && thread && pages > 0 && member != MT_SWAP && mt_is_in_fault(thread)) {
            mt_own_pages(thread, &key, member, pages);
            mt_uncount_copy(account->id, thread);
        }
    }
    mt_charge_pages(account, &key, member, pages);
}

/* Whether a change belongs to the end of the address space, whose account is then closed. */
static __always_inline int mt_is_teardown(struct mt_account *account, struct mm_struct *mm, mt_u32 member, mt_s64 pages)
{
    if (pages > 0 || BPF_CORE_READ(mm, mm_users.counter) > 0)
        return 0;
    mt_close_account(account->id, MT_CLOSED_BY_EXIT, member, pages);
    return 1;
}

/* From tp_btf/rss_stat: `member` of `mm` has just been changed. Mostly by a thread of its own that is known already,
 * which spares one look-up. */
static __always_inline void mt_on_rss_change(struct mm_struct *mm, mt_u32 member)
{
    mt_u64 address = (mt_u64)mm;
    mt_u32 tid = bpf_get_current_pid_tgid();
    struct mt_thread *thread = bpf_map_lookup_elem(&threads, &tid);
    struct mt_account *account = thread ? mt_find_account(thread->account) : 0;
    if (!account || account->mm != address) {
        mt_u32 *id = bpf_map_lookup_elem(&accounts_by_mm, &address);
        account = id ? mt_find_account(*id) : 0;
    }
    if (!account || member >= MT_MEMBERS)
        return;
    mt_s64 pages = mt_rss_delta(account, member);
    if (pages && !mt_is_teardown(account, mm, member, pages))
        mt_charge_current(account, thread, tid, member, pages);
}

/* A kernel that says what the counter of `member` is now. */
static __always_inline void mt_on_rss_count(struct mt_account *account, mt_u32 member, mt_s64 now)
{
    mt_u64 at = mt_member_index(member);
    mt_s64 pages = now - account->folded[at];
    mt_u32 tid = bpf_get_current_pid_tgid();
    if (!pages || (mt_has_own_counts() && mt_take_flush(account, tid, member, pages)))
        return;
    /* Two threads may both see what the first has changed. The next event takes back what was charged twice. */
    __sync_fetch_and_add(&account->folded[at], pages);
    if (!mt_is_teardown(account, (struct mm_struct *)account->mm, member, pages))
        mt_charge_current(account, bpf_map_lookup_elem(&threads, &tid), tid, member, pages);
}

/* From tp_btf/rss_stat before Linux 6.2. */
static __always_inline void mt_on_counted_rss(struct mm_struct *mm, mt_u32 member, mt_s64 now)
{
    mt_u64 address = (mt_u64)mm;
    mt_u32 *id = bpf_map_lookup_elem(&accounts_by_mm, &address);
    struct mt_account *account = id ? mt_find_account(*id) : 0;
    if (account && member < MT_MEMBERS)
        mt_on_rss_count(account, member, now);
}

/* From the classic tracepoint: it gives a hash in place of the mm, which is learned from events in the owner's own
 * context. */
static __always_inline void mt_on_classic_rss(mt_u32 mm_id, mt_u32 is_current, mt_u32 member, mt_s64 size_bytes)
{
    mt_u32 *id;
    struct mt_account *account;
    if (member >= MT_MEMBERS)
        return;
    if (is_current) {
        mt_u64 current_mm = (mt_u64)mt_of_task(mt_current_task(), mm);
        id = bpf_map_lookup_elem(&accounts_by_mm, &current_mm);
        account = id ? mt_find_account(*id) : 0;
        if (!account)
            return;
        if (account->mm_id != mm_id) {
            mt_u32 account_id = account->id;
            account->mm_id = mm_id;
            bpf_map_update_elem(&accounts_by_mm_id, &mm_id, &account_id, BPF_ANY);
        }
    } else {
        id = bpf_map_lookup_elem(&accounts_by_mm_id, &mm_id);
        account = id ? mt_find_account(*id) : 0;
        if (!account)
            return;
    }
    mt_on_rss_count(account, member, size_bytes >> mt_page_shift);
}

#endif
