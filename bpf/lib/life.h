/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* fork, exec and exit of the processes followed. */
#ifndef MEMTRACE_BPF_LIFE_H
#define MEMTRACE_BPF_LIFE_H

static __always_inline int mt_on_fork(struct task_struct *parent, struct task_struct *child)
{
    mt_u32 parent_tgid = BPF_CORE_READ(parent, tgid);
    mt_u32 child_tgid = BPF_CORE_READ(child, tgid);
    if (!mt_follow_children || parent_tgid == child_tgid)
        return 0; /* a thread */
    struct mt_process *process = bpf_map_lookup_elem(&processes, &parent_tgid);
    if (!process)
        return 0;
    mt_u64 parent_mm = (mt_u64)BPF_CORE_READ(parent, mm);
    mt_u64 child_mm = (mt_u64)BPF_CORE_READ(child, mm);
    struct mt_process born = {.account = process->account, .borrowed = 1};
    if (child_mm != parent_mm) {
        born.borrowed = 0;
        born.account = mt_open_account(child_mm, child_tgid, MT_OPENED_BY_FORK, process->account);
        if (born.account == MT_NO_ACCOUNT)
            return 0;
        if (mt_owners)
            mt_inherit_owners(process->account, born.account);
    }
    bpf_map_update_elem(&processes, &child_tgid, &born, BPF_ANY);
    return 0;
}

/* An executable that is known to hold an interpreter needs no search: its first line is charged right. The kernel keeps
 * start_code, which is the file's lowest executable address plus the load bias (load_elf_binary, fs/binfmt_elf.c). */
static __always_inline void mt_recognize_interpreter(struct mt_account *account, struct mm_struct *mm)
{
    struct mt_file_id executable = {.device = BPF_CORE_READ(mm, exe_file, f_inode, i_sb, s_dev),
                                    .inode = BPF_CORE_READ(mm, exe_file, f_inode, i_ino)};
    account->executable = executable;
    const struct mt_python *known = bpf_map_lookup_elem(&interpreters, &executable);
    if (!known)
        return;
    mt_u64 bias = BPF_CORE_READ(mm, start_code) - known->text_start;
    account->python = *known;
    account->python.runtime += bias;
    account->python.code_type += bias;
    account->python.text_start += bias;
    account->python.text_end += bias;
}

static __always_inline int mt_on_exec(struct task_struct *task, mt_u32 old_tid)
{
    mt_u32 tgid = BPF_CORE_READ(task, tgid), tid = BPF_CORE_READ(task, pid);
    struct mt_process *process = bpf_map_lookup_elem(&processes, &tgid);
    if (!process)
        return 0;
    bpf_map_delete_elem(&threads, &old_tid);
    bpf_map_delete_elem(&threads, &tid);
    if (!process->borrowed) {
        /* The old address space is gone already, which closed its account; unless somebody else still uses it. */
        mt_close_account(process->account, MT_CLOSED_BY_EXEC, MT_MEMBERS, 0);
        mt_u32 slot = mt_slot(process->account);
        struct mt_account *old = bpf_map_lookup_elem(&accounts, &slot);
        if (old && old->id == process->account)
            old->closed_by = MT_CLOSED_BY_EXEC;
    }
    struct mm_struct *mm = BPF_CORE_READ(task, mm);
    mt_u32 id = mt_open_account((mt_u64)mm, tgid, MT_OPENED_BY_EXEC, MT_NO_ACCOUNT);
    if (id == MT_NO_ACCOUNT) {
        bpf_map_delete_elem(&processes, &tgid);
        return 0;
    }
    struct mt_process now = {.account = id};
    bpf_map_update_elem(&processes, &tgid, &now, BPF_ANY);
    struct mt_account *account = mt_find_account(id);
    if (!account)
        return 0;
    mt_u64 from = BPF_CORE_READ(mm, arg_start);
    mt_u64 length = BPF_CORE_READ(mm, arg_end) - from;
    if (length > MT_ARGS_BYTES)
        length = MT_ARGS_BYTES;
    if (!bpf_probe_read_user(account->args, length, (void *)from))
        account->args_length = length;
    mt_recognize_interpreter(account, mm);
    struct mt_thread *thread = mt_has_own_counts() ? mt_thread_row(tid) : 0;
    if (thread) {
        thread->account = id;
        thread->place_owner = MT_OWNER_EXEC;
        mt_settle(id, tid);
    }
    if (mt_owners)
        mt_own_exec(id, mm);
    struct mt_record record = {.kind = MT_RECORD_LOOK, .account = id};
    bpf_ringbuf_output(&records, &record, sizeof(record), BPF_RB_FORCE_WAKEUP);
    return 0;
}

static __always_inline int mt_on_exit(struct task_struct *task)
{
    mt_u32 tid = BPF_CORE_READ(task, pid), tgid = BPF_CORE_READ(task, tgid);
    /* Also of a process that is not followed: a vfork child has a row while it lives in a followed one's memory. */
    bpf_map_delete_elem(&threads, &tid);
    struct mt_process *process = bpf_map_lookup_elem(&processes, &tgid);
    if (!process)
        return 0;
    if (BPF_CORE_READ(task, signal, live.counter) > 0) {
        if (mt_has_own_counts() && tid == tgid)
            mt_hand_over_own_counts(task, tid);
        return 0; /* other threads go on */
    }
    if (!process->borrowed)
        mt_close_account(process->account, MT_CLOSED_BY_EXIT, MT_MEMBERS, 0);
    bpf_map_delete_elem(&processes, &tgid);
    return 0;
}

/* Carries out mt_command for one thread that the iterator passes. */
static __always_inline int mt_on_task(struct task_struct *task)
{
    mt_tracer_tgid = bpf_get_current_pid_tgid() >> 32;
    mt_u32 tgid = BPF_CORE_READ(task, tgid);
    mt_u64 mm = (mt_u64)BPF_CORE_READ(task, mm);
    if (!mm)
        return 0;
    struct mt_process *process = bpf_map_lookup_elem(&processes, &tgid);
    if (mt_command == MT_COMMAND_OPEN && tgid == mt_command_tgid && !process) {
        struct mt_process opened = {.account = mt_open_account(mm, tgid, MT_OPENED_BY_ATTACH, MT_NO_ACCOUNT)};
        if (opened.account != MT_NO_ACCOUNT)
            bpf_map_update_elem(&processes, &tgid, &opened, BPF_ANY);
        process = bpf_map_lookup_elem(&processes, &tgid);
    }
    if (!process || process->borrowed)
        return 0;
    struct mt_account *account = mt_find_account(process->account);
    if (!account)
        return 0;
    if (mt_has_own_counts()) {
        if (mt_command == MT_COMMAND_OPEN && tgid == mt_command_tgid)
            mt_open_own_counts(account, task);
        if (mt_command == MT_COMMAND_LOOK)
            mt_close_own_counts(account, task);
    }
    /* Own counters that were changed since they were looked at: userspace will look again. */
    if (mt_command == MT_COMMAND_CLOSE || (mt_command == MT_COMMAND_CLOSE_LOOKED_AT &&
                                           account->own_changes == account->own_changes_looked_at))
        mt_close_account(account->id, MT_CLOSED_BY_DETACH, MT_MEMBERS, 0);
    return 0;
}

#endif
