/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* A resident-set change: whose is it? */
#ifndef MEMTRACE_BPF_RESIDENT_H
#define MEMTRACE_BPF_RESIDENT_H

#define MT_PF_MEMALLOC 0x00000800 /* linux/sched.h: this task is reclaiming memory right now */
#define MT_PF_KTHREAD 0x00200000

/* The running thread's row, made when it is new. */
static __always_inline struct mt_thread *mt_this_thread(mt_u32 tid)
{
    struct mt_thread *thread = bpf_map_lookup_elem(&threads, &tid);
    if (thread)
        return thread;
    struct mt_thread zero = {};
    bpf_map_update_elem(&threads, &tid, &zero, BPF_NOEXIST);
    thread = bpf_map_lookup_elem(&threads, &tid);
    if (!thread)
        mt_count_failure(MT_FAIL_THREADS_FULL);
    return thread;
}

static __always_inline void mt_charge_current(struct mt_account *account, mt_u32 member, mt_s64 pages)
{
    struct mt_charge_key key = {.account = account->id};
    struct task_struct *task = (struct task_struct *)bpf_get_current_task();
    mt_u32 flags = BPF_CORE_READ(task, flags);

    if ((mt_u64)BPF_CORE_READ(task, mm) != account->mm || flags & MT_PF_KTHREAD) {
        key.owner = pages < 0 ? MT_OWNER_RECLAIM : MT_OWNER_OTHER_PROCESS;
    } else if (pages < 0 && flags & MT_PF_MEMALLOC) {
        key.owner = MT_OWNER_RECLAIM;
    } else {
        mt_u32 tid = bpf_get_current_pid_tgid();
        struct mt_thread *thread = mt_this_thread(tid);
        if (!thread) {
            key.owner = MT_OWNER_LINE_UNKNOWN;
        } else if (thread->call) {
            key.owner = thread->call_owner;
            key.stack = thread->call_stack;
            key.call = thread->call;
            if (member != MT_SWAP)
                thread->call_rss_pages += pages;
        } else {
            key.owner = mt_find_stack(account->id, tid);
            struct mt_scratch *s = mt_get_scratch();
            if (s && key.owner == MT_OWNER_STACK)
                key.stack = s->stack;
        }
    }
    mt_charge_pages(account, &key, member, pages);
}

/* From tp_btf/rss_stat: `member` of `mm` has just been changed. */
static __always_inline void mt_on_rss_change(mt_u64 mm, mt_u32 member)
{
    mt_u32 *id = bpf_map_lookup_elem(&accounts_by_mm, &mm);
    if (!id || member >= MT_MEMBERS)
        return;
    struct mt_account *account = mt_find_account(*id);
    if (!account)
        return;
    mt_s64 pages = mt_rss_delta(account, member);
    if (!pages)
        return;
    struct mm_struct *changed = (struct mm_struct *)mm;
    if (pages < 0 && BPF_CORE_READ(changed, mm_users.counter) == 0) {
        mt_close_account(account->id, MT_CLOSED_BY_EXIT, member, pages);
        return;
    }
    mt_charge_current(account, member, pages);
}

/* From the classic tracepoint: it gives an absolute size, and a hash in place of the mm. The hash is learned from
 * events in the owner's own context. */
static __always_inline void mt_on_classic_rss(mt_u32 mm_id, mt_u32 is_current, mt_u32 member, mt_s64 size_bytes)
{
    mt_u32 *id;
    struct mt_account *account;
    if (member >= MT_MEMBERS)
        return;
    if (is_current) {
        mt_u64 current_mm = (mt_u64)BPF_CORE_READ((struct task_struct *)bpf_get_current_task(), mm);
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
    mt_s64 now = size_bytes >> mt_page_shift;
    mt_u64 at = mt_member_index(member);
    mt_s64 pages = now - __sync_lock_test_and_set(&account->folded[at], now);
    if (!pages)
        return;
    struct mm_struct *mm = (struct mm_struct *)account->mm;
    if (pages < 0 && BPF_CORE_READ(mm, mm_users.counter) == 0) {
        mt_close_account(account->id, MT_CLOSED_BY_EXIT, member, pages);
        return;
    }
    mt_charge_current(account, member, pages);
}

#endif
