/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* brk, mmap, munmap, mremap and madvise of the processes followed: counted when they succeed, with the Python stack
 * they were made from. While a thread is inside one, its resident-set changes are charged to that stack and call. */
#ifndef MEMTRACE_BPF_SYSCALLS_H
#define MEMTRACE_BPF_SYSCALLS_H

/* Pymalloc's arena functions lie in the interpreter, malloc's in libc: who called libc's mmap or munmap tells an arena from a
 * block of the same size. */
static __always_inline int mt_called_from_interpreter(const struct mt_python *python)
{
    struct pt_regs *regs = mt_user_registers();
    if (!regs)
        return 1; /* the size alone decides */
    mt_u64 return_address = mt_return_address(regs);
    return return_address >= python->text_start && return_address < python->text_end;
}

#define MT_PROT_EXEC 4 /* uapi/asm-generic/mman-common.h */

static __always_inline int mt_enter_call(mt_u32 call, mt_u64 arg0, mt_u64 arg1, mt_u64 arg2)
{
    mt_u32 tid = bpf_get_current_pid_tgid();
    struct mt_account *account = mt_current_account();
    if (!account || mt_is_32_bit_call(mt_current_task()))
        return 0;
    struct mt_thread *thread = mt_thread_row(tid);
    if (!thread)
        return 0;
    if (mt_has_own_counts())
        mt_settle(account->id, tid);
    thread->call_argument = arg0;
    thread->call_size = arg1;
    thread->call_length = arg1;
    thread->call_rss_pages = 0;
    thread->call_is_arena = 0;
    thread->call_maps_code = 0;
    struct mm_struct *mm = (struct mm_struct *)account->mm;
    switch (call) {
    case MT_CALL_BRK:
        thread->call_argument = BPF_CORE_READ(mm, brk);
        thread->call_length = arg0 - thread->call_argument;
        break;
    case MT_CALL_MREMAP:
        thread->call_length = arg2 - arg1;
        break;
    case MT_CALL_MMAP:
        thread->call_maps_code = account->python.state == MT_PYTHON_PENDING && arg2 & MT_PROT_EXEC;
        /* fall through */
    case MT_CALL_MUNMAP:
        if (account->python.state == MT_PYTHON_READY && arg1 == account->python.arena_bytes)
            thread->call_is_arena = mt_called_from_interpreter(&account->python);
        break;
    default:
        break;
    }
    /* An interpreter is not made without memory: here is often enough to notice that there is a new one. */
    if (account->python.state == MT_PYTHON_READY)
        account->interpreter = mt_newest_interpreter(&account->python);
    mt_s64 length = thread->call_length;
    mt_u64 stack = 0;
    thread->call_owner = mt_find_place(account, thread, tid, (length < 0 ? -length : length) >> mt_page_shift, &stack);
    thread->call_stack = stack;
    if (mt_owners)
        mt_disown_entering(account->id, call, arg0, arg1, arg2, thread->call_argument);
    if (mt_has_own_counts()) {
        thread->account = account->id;
        thread->place_owner = thread->call_owner;
        thread->place_stack = stack;
        thread->place_call = call;
    }
    if (!thread->call) /* else the call before was passed over when it left */
        __sync_fetch_and_add(&account->calling, 1);
    thread->call = call; /* last: from here on resident-set changes belong to this call */
    return 0;
}

static __always_inline void mt_count_call(const struct mt_thread *thread, mt_u32 account, mt_u32 kind)
{
    struct mt_call_key key = {
        .stack = thread->call_stack, .account = account, .owner = thread->call_owner, .kind = kind};
    struct mt_call_sum *sum = mt_find_or_make(&calls, &key, &mt_new_call_sum);
    if (!sum) {
        mt_count_failure(MT_FAIL_CALLS_FULL);
        return;
    }
    __sync_fetch_and_add(&sum->count, 1);
    __sync_fetch_and_add(&sum->length_bytes, thread->call_length);
    __sync_fetch_and_add(&sum->rss_pages, thread->call_rss_pages);
}

static __always_inline int mt_leave_call(mt_s64 result)
{
    mt_u64 pid_tgid = bpf_get_current_pid_tgid();
    mt_u32 tgid = pid_tgid >> 32, tid = pid_tgid;
    struct mt_thread *thread = bpf_map_lookup_elem(&threads, &tid);
    if (!thread || !thread->call)
        return 0;
    mt_u32 call = thread->call;
    struct mt_process *process = bpf_map_lookup_elem(&processes, &tgid);
    if (process && mt_has_own_counts())
        mt_settle(process->account, tid);
    thread->call = MT_CALL_NONE;
    thread->place_call = MT_CALL_NONE;
    if (!process)
        return 0;
    mt_u32 account = process->account;
    struct mt_account *calling = mt_find_account(account);
    if (calling)
        __sync_fetch_and_add(&calling->calling, -1);
    if (call == MT_CALL_BRK) {
        /* brk never fails: it returns the break as it is. A query (brk(0)) or refusal moves nothing. */
        mt_s64 moved = result - (mt_s64)thread->call_argument;
        if (!thread->call_argument || moved != thread->call_length || !moved)
            return 0;
        mt_count_call(thread, account, moved > 0 ? MT_KIND_BRK_GROW : MT_KIND_BRK_SHRINK);
        return 0;
    }
    if (result < 0 && result >= -4095)
        return 0;
    if (mt_owners)
        mt_own_called(thread, account, call, result);
    switch (call) {
    case MT_CALL_MMAP:
        if (thread->call_maps_code) {
            struct mt_record record = {.kind = MT_RECORD_LOOK, .account = account};
            bpf_ringbuf_output(&records, &record, sizeof(record), BPF_RB_FORCE_WAKEUP);
        }
        mt_count_call(thread, account, MT_KIND_MMAP);
        if (thread->call_is_arena)
            mt_count_call(thread, account, MT_KIND_ARENA_MMAP);
        break;
    case MT_CALL_MUNMAP:
        mt_count_call(thread, account, MT_KIND_MUNMAP);
        if (thread->call_is_arena)
            mt_count_call(thread, account, MT_KIND_ARENA_MUNMAP);
        break;
    case MT_CALL_MREMAP:
        mt_count_call(thread, account, MT_KIND_MREMAP);
        break;
    case MT_CALL_MADVISE:
        mt_count_call(thread, account, MT_KIND_MADVISE);
        break;
    default:
        break;
    }
    return 0;
}

#endif
