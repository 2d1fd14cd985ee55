/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* With --owners: copy on write. After fork, parent and child have the same anonymous pages, until one of them writes: then
 * it gets a copy, which changes no resident set, and costs a page all the same.
 *
 * Such a fault writes to a page that is there. Most of them cost nothing: when the other process has its copy already, or
 * has ended, the page is given to who is left. So a fault counts when the kernel takes a page for it:
 *
 *     page_fault_user, a write to what is there      expected
 *     mm_page_alloc, of user memory, in the fault    counted
 *     rss_stat, in the fault                         not, after all: a file's page, or the page of zeros, was replaced */
#ifndef MEMTRACE_BPF_COPIES_H
#define MEMTRACE_BPF_COPIES_H

#define MT_GFP_MOVABLE 0x8 /* linux/gfp_types.h: user memory, and not page tables */

static __always_inline int mt_on_page_alloc(mt_u32 order, mt_u32 flags)
{
    if (order || !(flags & MT_GFP_MOVABLE))
        return 0;
    mt_u32 tid = bpf_get_current_pid_tgid();
    struct mt_thread *thread = bpf_map_lookup_elem(&threads, &tid);
    if (!thread || thread->fault_copies != MT_COPY_EXPECTED || !mt_is_in_fault(thread))
        return 0;
    struct mt_account *account = mt_current_account();
    if (!account)
        return 0;
    mt_u64 stack = 0;
    struct mt_charge_key key = {.account = account->id, .owner = mt_find_place(account, thread, tid, 1, &stack)};
    key.stack = stack;
    const mt_u64 none = 0;
    mt_u64 *pages = mt_find_or_make(&copies, &key, &none);
    if (!pages) {
        mt_count_failure(MT_FAIL_COPIES_FULL);
        return 0;
    }
    __sync_fetch_and_add(pages, 1);
    thread->fault_copies = MT_COPY_COUNTED;
    thread->copy_stack = stack;
    thread->copy_owner = key.owner;
    return 0;
}

/* The running thread's resident set grows: in a fault that was counted, it was none of a shared anonymous page. */
static __always_inline void mt_uncount_copy(mt_u32 account_id, struct mt_thread *thread)
{
    if (thread->fault_copies == MT_COPY_NONE || !mt_is_in_fault(thread))
        return;
    struct mt_charge_key key = {.stack = thread->copy_stack, .account = account_id, .owner = thread->copy_owner};
    mt_u64 *pages = thread->fault_copies == MT_COPY_COUNTED ? bpf_map_lookup_elem(&copies, &key) : 0;
    if (pages)
        __sync_fetch_and_add(pages, -1);
    thread->fault_copies = MT_COPY_NONE;
}

#endif
