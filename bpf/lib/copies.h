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

/* struct pool_header, Objects/obmalloc.c; the same from 2.7 to 3.15. */
#define MT_POOL_HEADER_BYTES 48
#define MT_POOL_SIZE_CLASS 36 /* szidx; nextoffset and maxnextoffset follow */
#define MT_POOL_CLASSES 64    /* blocks aligned to 8 bytes; 32 where to 16, from 3.7 on */

/* What lies at an address of pymalloc's: an object begins with its reference count, or with 16 bytes of the garbage
 * collector's and then that. Where there is no pool, or another allocator, it is data.
 *
 * To be asked before the kernel handles the fault. Reading marks a page as accessed, and a kernel that finds the page's
 * entry changed when it has made the copy throws that away, and begins again. */
static __always_inline mt_u8 mt_what_lies_at(const struct mt_python *python, mt_u64 address)
{
    /* Arenas of 1 MiB have pools of 16 KiB, those of 256 KiB (up to 3.9) of 4 KiB. */
    mt_u32 pool_bytes = python->arena_bytes >= 1 << 20 ? 16384 : 4096;
    mt_u32 offset = address & (pool_bytes - 1);
    struct {
        mt_u32 size_class, next_offset, last_offset;
    } pool;
    if (python->state != MT_PYTHON_READY || offset < MT_POOL_HEADER_BYTES ||
        bpf_probe_read_user(&pool, sizeof(pool), (void *)(address - offset + MT_POOL_SIZE_CLASS)) ||
        pool.size_class >= MT_POOL_CLASSES)
        return MT_WRITE_DATA;
    mt_u32 block_bytes = (pool.size_class + 1) * 16;
    if (pool.last_offset != pool_bytes - block_bytes)
        block_bytes /= 2;
    if (pool.last_offset != pool_bytes - block_bytes)
        return MT_WRITE_DATA;
    return (offset - MT_POOL_HEADER_BYTES) % block_bytes < 24 ? MT_WRITE_HEADER : MT_WRITE_DATA;
}

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
    key.call = thread->copy_write;
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

/* The fault that the thread was last seen to begin has made the resident set grow: if it was counted, it was none of a
 * shared anonymous page. */
static __always_inline void mt_uncount_copy(mt_u32 account_id, struct mt_thread *thread)
{
    if (thread->fault_copies == MT_COPY_NONE)
        return;
    struct mt_charge_key key = {.stack = thread->copy_stack, .account = account_id, .owner = thread->copy_owner,
                                .call = thread->copy_write};
    mt_u64 *pages = thread->fault_copies == MT_COPY_COUNTED ? bpf_map_lookup_elem(&copies, &key) : 0;
    if (pages)
        __sync_fetch_and_add(pages, -1);
    thread->fault_copies = MT_COPY_NONE;
}

#endif
