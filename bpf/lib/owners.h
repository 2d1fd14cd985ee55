/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* With --owners: which pages became resident, by whose touch, told to userspace, which keeps them as ranges
 * (ledger/owned_ranges.h).
 *
 * A change of the resident set says how many pages, and not which: the page fault that the thread is in says where.
 * Programs touch memory in order, so that a CPU mostly adds to what it has yet to send:
 *
 *     fault at 0x7f00, 1 page, line 7      run of 1
 *     fault at 0x7f01, 1 page, line 7      run of 2
 *     fault at 0x9a00, 1 page, line 8      the run of 2 is sent; run of 1
 *
 * Only its own CPU adds to a run; any may send it, since what unmaps pages is told after what has touched them. */
#ifndef MEMTRACE_BPF_OWNERS_H
#define MEMTRACE_BPF_OWNERS_H

#define MT_OWNERS_WAKE_BYTES (512 << 10)

static __always_inline void mt_send_owner_record(void *record, mt_u64 size)
{
    mt_u64 waiting = bpf_ringbuf_query(&owner_records, BPF_RB_AVAIL_DATA);
    if (bpf_ringbuf_output(&owner_records, record, size,
                           waiting > MT_OWNERS_WAKE_BYTES ? BPF_RB_FORCE_WAKEUP : BPF_RB_NO_WAKEUP))
        mt_count_failure(MT_FAIL_OWNERS_FULL);
}

#ifdef MT_BEFORE_5_12 /* no compare-and-exchange: there are no runs, each touch is sent by itself */
static __always_inline void mt_send_runs(mt_u32 account_id)
{
}

static __always_inline void mt_add_to_run(const struct mt_charge_key *key, mt_u64 first, mt_u64 pages)
{
    struct mt_touch_record touch = {.record = {.kind = MT_RECORD_TOUCH, .account = key->account},
                                    .stack = key->stack,
                                    .first = first,
                                    .pages = pages,
                                    .resident = pages,
                                    .touched = MT_NO_FIELD,
                                    .owner = key->owner,
                                    .anonymous = 1};
    mt_send_owner_record(&touch, sizeof(touch));
}
#else
/* Sends the run of this row, if there is one. Whose it is changes only while it has no pages. */
__noinline int mt_send_run(mt_u32 row)
{
    struct mt_owner_run *run = bpf_map_lookup_elem(&owner_runs, &row);
    if (!run)
        return 0;
    for (int attempt = 0; attempt < 4; attempt++) {
        mt_u64 pages = *(volatile mt_u64 *)&run->pages;
        if (!pages)
            return 0;
        mt_u32 count = pages & MT_RUN_PAGES;
        struct mt_touch_record touch = {.record = {.kind = MT_RECORD_TOUCH, .account = run->account},
                                        .stack = run->stack,
                                        .first = (pages >> MT_RUN_BITS) - count,
                                        .pages = count,
                                        .resident = count,
                                        .touched = MT_NO_FIELD,
                                        .owner = run->owner,
                                        .anonymous = 1};
        if (__sync_val_compare_and_swap(&run->pages, pages, 0) == pages) {
            mt_send_owner_record(&touch, sizeof(touch));
            return 0;
        }
    }
    return 0; /* its CPU keeps adding to it, and will send it */
}

/* Sends all runs of an account: what comes now is about pages that may be among them. */
static __always_inline void mt_send_runs(mt_u32 account_id)
{
    for (mt_u32 cpu = 0; cpu < mt_cpus; cpu++)
        mt_send_run(mt_slot(account_id) * mt_cpus + cpu);
}

static __always_inline void mt_add_to_run(const struct mt_charge_key *key, mt_u64 first, mt_u64 pages)
{
    mt_u32 row = mt_slot(key->account) * mt_cpus + bpf_get_smp_processor_id();
    struct mt_owner_run *run = bpf_map_lookup_elem(&owner_runs, &row);
    if (!run)
        return;
    mt_u64 before = *(volatile mt_u64 *)&run->pages;
    if (before && before >> MT_RUN_BITS == first && (before & MT_RUN_PAGES) + pages <= MT_RUN_PAGES &&
        run->stack == key->stack && run->owner == key->owner && run->account == key->account &&
        __sync_val_compare_and_swap(&run->pages, before, before + (pages << MT_RUN_BITS) + pages) == before)
        return;
    mt_send_run(row);
    run->stack = key->stack;
    run->account = key->account;
    run->owner = key->owner;
    *(volatile mt_u64 *)&run->pages = (first + pages) << MT_RUN_BITS | pages;
}
#endif

/* How many faults the thread has had: the kernel counts one when it is over (mm_account_fault, mm/memory.c). */
static __always_inline mt_u64 mt_fault_count(struct task_struct *task)
{
    return mt_of_task(task, min_flt) + mt_of_task(task, maj_flt);
}

/* Whether the running thread is still in the page fault that it was last seen to begin. */
static __always_inline int mt_is_in_fault(const struct mt_thread *thread)
{
    return thread->fault_address && thread->fault_count == mt_fault_count(mt_current_task());
}

#define MT_FAULT_AROUND_BYTES (64u << 10) /* fault_around_bytes (mm/memory.c), unless somebody changed it in debugfs */

/* The fault that the thread was last seen to begin has made `pages` more resident for `key`. Large folios lie on a multiple of their size; a fault on
 * a file also maps those of its neighbours that are in the page cache. */
static __always_inline void mt_own_pages(const struct mt_thread *thread, const struct mt_charge_key *key, mt_u32 member,
                                         mt_u64 pages)
{
    mt_u64 page = thread->fault_address >> mt_page_shift;
    mt_u64 huge = 1u << (mt_page_shift - 3); /* pages of a page table: 512 of 4 KiB */
    int anonymous = member == MT_ANON;
    if (anonymous && (pages == 1 || pages == huge)) {
        mt_add_to_run(key, page & ~(pages - 1), pages);
        return;
    }
    mt_u64 window = anonymous ? 1 : MT_FAULT_AROUND_BYTES >> mt_page_shift;
    for (int i = 0; i < 16 && window < pages; i++)
        window *= 2;
    struct mt_touch_record touch = {.record = {.kind = MT_RECORD_TOUCH, .account = key->account},
                                    .stack = key->stack,
                                    .first = page & ~(window - 1),
                                    .pages = window,
                                    .resident = pages < window ? pages : window,
                                    .touched = page & (window - 1),
                                    .owner = key->owner,
                                    .anonymous = anonymous};
    mt_send_owner_record(&touch, sizeof(touch));
}

#define MT_ADVICE_DONTNEED 4 /* uapi/asm-generic/mman-common.h */
#define MT_ADVICE_REMOVE 9
#define MT_ADVICE_DONTNEED_LOCKED 24

static __always_inline void mt_tell_moved(mt_u32 account_id, mt_u64 start, mt_u64 end, mt_u64 to)
{
    mt_u64 in_page = (1ull << mt_page_shift) - 1;
    struct mt_move_record move = {.record = {.kind = MT_RECORD_MOVE, .account = account_id},
                                  .start = (start + in_page) & ~in_page,
                                  .end = (end + in_page) & ~in_page,
                                  .to = to};
    if (move.start < move.end)
        mt_send_owner_record(&move, sizeof(move));
}

/* Before a call that takes pages away: what other threads touch there from now on comes after it. Pages that were given
 * up by MADV_FREE are still there, until the kernel takes them; then they fault again. */
static __always_inline void mt_disown_entering(mt_u32 account_id, mt_u32 call, mt_u64 arg0, mt_u64 arg1, mt_u64 arg2,
                                               mt_u64 program_break)
{
    mt_u64 in_page = (1ull << mt_page_shift) - 1, start = arg0, end = arg0 + arg1;
    if (call == MT_CALL_BRK) {
        start = (arg0 + in_page) & ~in_page;
        end = arg0 ? program_break : 0;
    } else if (call != MT_CALL_MUNMAP &&
               !(call == MT_CALL_MADVISE && (arg2 == MT_ADVICE_DONTNEED || arg2 == MT_ADVICE_REMOVE ||
                                             arg2 == MT_ADVICE_DONTNEED_LOCKED))) {
        return;
    }
    if (start & in_page || start >= end)
        return; /* refused, or nothing to do */
    mt_send_runs(account_id);
    mt_tell_moved(account_id, start, end, 0);
}

/* After a call that succeeded: mremap has moved pages; mmap (MAP_POPULATE) and madvise (MADV_POPULATE_READ, and so on)
 * make pages resident without a fault, and say where. */
static __always_inline void mt_own_called(const struct mt_thread *thread, mt_u32 account_id, mt_u32 call, mt_u64 result)
{
    if (call == MT_CALL_MREMAP) {
        mt_u64 from = thread->call_argument, old_size = thread->call_size, size = old_size + thread->call_length;
        if (from == result && size >= old_size)
            return;
        mt_send_runs(account_id);
        if (size < old_size)
            mt_tell_moved(account_id, from + size, from + old_size, 0);
        if (from != result)
            mt_tell_moved(account_id, from, from + (size < old_size ? size : old_size), result);
    } else if ((call == MT_CALL_MMAP || call == MT_CALL_MADVISE) && thread->call_rss_pages > 0) {
        mt_u64 start = call == MT_CALL_MMAP ? result : thread->call_argument;
        mt_u64 pages = (thread->call_size + (1ull << mt_page_shift) - 1) >> mt_page_shift;
        mt_u64 resident = thread->call_rss_pages;
        struct mt_touch_record touch = {.record = {.kind = MT_RECORD_TOUCH, .account = account_id},
                                        .stack = thread->call_stack,
                                        .first = start >> mt_page_shift,
                                        .pages = pages,
                                        .resident = resident < pages ? resident : pages,
                                        .touched = MT_NO_FIELD,
                                        .owner = thread->call_owner,
                                        .anonymous = 1};
        mt_send_owner_record(&touch, sizeof(touch));
    }
}

static __always_inline void mt_inherit_owners(mt_u32 parent, mt_u32 child)
{
    struct mt_inherit_record inherit = {.record = {.kind = MT_RECORD_INHERIT, .account = child}, .parent = parent};
    mt_send_runs(parent);
    mt_send_owner_record(&inherit, sizeof(inherit));
}

/* What exec has laid out for the new program: arguments, environment and what is above. */
static __always_inline void mt_own_exec(mt_u32 account_id, struct mm_struct *mm)
{
    mt_u64 first = BPF_CORE_READ(mm, start_stack) >> mt_page_shift;
    mt_u64 last = BPF_CORE_READ(mm, env_end) >> mt_page_shift;
    mt_u32 pages = last - first + 1;
    struct mt_touch_record touch = {.record = {.kind = MT_RECORD_TOUCH, .account = account_id},
                                    .first = first,
                                    .pages = pages,
                                    .resident = pages,
                                    .touched = MT_NO_FIELD,
                                    .owner = MT_OWNER_EXEC,
                                    .anonymous = 1};
    if (first <= last)
        mt_send_owner_record(&touch, sizeof(touch));
}

#endif
