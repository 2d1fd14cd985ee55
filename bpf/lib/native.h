/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Naming native code, for what no Python function explains: the threads of extension modules.
 *
 * Most code has no frame pointers, so only userspace can unwind it. It is sent the registers and the top of the stack,
 * once a place (an instruction at a stack pointer) that has changed enough memory. It names the place, and if that lies
 * in a library routine (memset, malloc) answers where on the stack the return address into the routine's user is. From
 * then on that word is part of the name: two functions that call memset from one depth are told apart.
 *
 *     first 64 KiB         unnamed
 *     until the answer     named by (instruction, stack pointer): whoever was there first
 *     from then on         named by (instruction, stack pointer, return address) */
#ifndef MEMTRACE_BPF_NATIVE_H
#define MEMTRACE_BPF_NATIVE_H

#define MT_STACK_PIECE 4096 /* a power of two, no larger than a page: a read of two pages fails if one is not there */

/* Copies the stack, piece by piece, up to the first that is not there. */
static __always_inline mt_u32 mt_copy_stack(mt_u8 *into, mt_u64 stack_pointer)
{
    mt_u32 first = MT_STACK_PIECE - (stack_pointer & (MT_STACK_PIECE - 1)), done = first;
    if (bpf_probe_read_user(into, first, (void *)stack_pointer))
        return 0;
    for (int piece = 0; piece < MT_NATIVE_STACK_BYTES / MT_STACK_PIECE - 1; piece++) {
        if (done > MT_NATIVE_STACK_BYTES - MT_STACK_PIECE ||
            bpf_probe_read_user(into + done, MT_STACK_PIECE, (void *)(stack_pointer + done)))
            break;
        done += MT_STACK_PIECE;
    }
    return done;
}

/* Sends the registers and the stack. Returns 0 when they are on their way. */
static __always_inline int mt_publish_native(const struct mt_native_key *key, struct pt_regs *regs, mt_u64 name,
                                             mt_u32 check_at)
{
    struct mt_native_record *record = bpf_ringbuf_reserve(&records, sizeof(*record), 0);
    if (!record)
        return -1;
    record->record.kind = MT_RECORD_NATIVE;
    record->record.account = key->account;
    record->key = *key;
    record->stack = name;
    record->check_at = check_at;
    bpf_probe_read_kernel(record->registers, MT_USER_REGISTERS_BYTES, regs);
    record->stack_bytes = mt_copy_stack(record->bytes, key->stack_pointer);
    bpf_ringbuf_submit(record, BPF_RB_FORCE_WAKEUP);
    return 0;
}

/* Names the native place that the running thread is at, where `pages` were changed, in scratch->native. Returns 0 when
 * it has no name. */
__noinline int mt_name_native(mt_u32 account_id, mt_u64 pages)
{
    struct mt_account *account = mt_find_account(account_id);
    struct mt_scratch *s = mt_get_scratch();
    struct pt_regs *regs = mt_user_registers();
    if (!account || !s || !regs)
        return 0;
    struct mt_native_key key = {.instruction = mt_user_instruction_pointer(regs),
                                .stack_pointer = mt_user_stack_pointer(regs),
                                .account = account_id};
    const struct mt_native_site zero = {};
    struct mt_native_site *site = mt_find_or_make(&native_sites, &key, &zero);
    if (!site)
        return 0;
    site->pages += pages;
    if (site->pages << mt_page_shift < MT_NATIVE_WORTH_BYTES || site->state == MT_NATIVE_HIDDEN)
        return 0;
    mt_u64 name = mt_mix(mt_mix(account_id, key.instruction), key.stack_pointer);
    mt_u32 check_at = MT_NO_FIELD;
    if (site->state == MT_NATIVE_CHECKED) {
        check_at = site->check_at;
        name = mt_mix(name, mt_read_user_u64(key.stack_pointer + check_at));
    }
    struct mt_published_key published = {.stack = name, .account = account_id};
    if (!bpf_map_lookup_elem(&published_stacks, &published)) {
        if (account->native_names >= MT_NATIVE_NAMES) {
            mt_count_failure(MT_FAIL_NATIVE_FULL);
            return 0;
        }
        if (mt_publish_native(&key, regs, name, check_at))
            return 0;
        account->native_names += 1;
        mt_u8 one = 1;
        bpf_map_update_elem(&published_stacks, &published, &one, BPF_ANY);
    }
    s->native = name;
    return 1;
}

/* Who the running thread changes `pages` for. Returns an enum mt_owner, and the stack's name, or 0, in `stack`. What is
 * native and comes before any Python is the interpreter's start, and needs no name. */
static __always_inline mt_u32 mt_find_place(struct mt_account *account, struct mt_thread *thread, mt_u32 tid,
                                            mt_u64 pages, mt_u64 *stack)
{
    *stack = 0;
    struct mt_scratch *s = mt_take_scratch();
    if (!s)
        return MT_OWNER_LINE_UNKNOWN;
    mt_u32 owner = mt_find_stack(account, thread, tid);
    if (owner == MT_OWNER_STACK) {
        account->has_run_python = 1;
        *stack = thread->stack;
    } else if (owner == MT_OWNER_NO_FRAME && account->has_run_python && account->python.state == MT_PYTHON_READY &&
               mt_name_native(account->id, pages)) {
        *stack = s->native;
    }
    s->taken = 0;
    return owner;
}

#endif
