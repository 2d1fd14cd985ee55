/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Which PyThreadState is the running thread's: the one whose thread_id is pthread_self(). Pthread-specific storage has it
 * at hand, from 3.7 to 3.14; else, or in a sub-interpreter, the interpreters' lists are searched.
 *
 * "The holder of the GIL" would be wrong: C code that gave the GIL up still allocates and frees. The answer is
 * remembered by thread and checked at every event, for thread states are freed and made again. */
#ifndef MEMTRACE_BPF_THREAD_STATE_H
#define MEMTRACE_BPF_THREAD_STATE_H

#define MT_MAX_THREAD_STATES 1024

static __always_inline mt_u64 mt_read_user_u64(mt_u64 address)
{
    mt_u64 value = 0;
    if (bpf_probe_read_user(&value, sizeof(value), (void *)address))
        return 0;
    return value;
}

#if MT_THREAD_POINTER_MAY_BE_OLD
/* Whether this is the running thread's pthread_self(), though the thread pointer says otherwise: C libraries keep the
 * thread's number there. */
static __noinline int mt_has_running_tid(const struct mt_python *python, mt_u64 pthread)
{
    struct task_struct *task = mt_current_task();
    if (!pthread || python->pthread_tid == MT_NO_FIELD || mt_of_task(task, pid) != mt_of_task(task, tgid))
        return 0;
    /* pid_nr_ns: its number in its own namespace is the last. */
    struct pid *pid = BPF_CORE_READ(task, thread_pid);
    struct upid *own = (void *)pid + bpf_core_field_offset(struct pid, numbers) +
                       BPF_CORE_READ(pid, level) * bpf_core_type_size(struct upid);
    mt_u32 tid = 0;
    return !bpf_probe_read_user(&tid, sizeof(tid), (void *)(pthread + python->pthread_tid)) &&
           tid == (mt_u32)BPF_CORE_READ(own, nr);
}
#else
#define mt_has_running_tid(python, pthread) ((void)(python), 0)
#endif

/* Whether a thread state with this thread_id is the running thread's; `self` is what its thread pointer says. */
static __always_inline int mt_is_running_thread(const struct mt_python *python, mt_u64 thread_id, mt_u64 self)
{
    return thread_id == self || mt_has_running_tid(python, thread_id);
}

/* What a thread state has in its field thread_frame, as a frame. */
static __always_inline mt_u64 mt_innermost_frame(const struct mt_python *python, mt_u64 field)
{
    if (python->cframe_frame == MT_NO_FIELD)
        return field;
    return field ? mt_read_user_u64(field + python->cframe_frame) : 0;
}

/* The innermost frame of `state`, or 0 when it runs nothing, or is not this thread's (*mine is then 0). */
static __always_inline mt_u64 mt_current_frame(const struct mt_python *python, struct mt_scratch *s, mt_u64 state,
                                               mt_u64 self, int *mine)
{
    /* Frame and thread_id lie at most 160 bytes apart in every version: one read for both. */
    mt_u64 span = mt_opaque(python->thread_id - python->thread_frame + 8);
    *mine = 0;
    if (span < 16 || span > 168)
        return 0;
    if (bpf_probe_read_user(s->window, mt_below(span, 256), (void *)(state + python->thread_frame)))
        return 0;
    if (!mt_is_running_thread(python, *(mt_u64 *)(s->window + mt_below(span - 8, 256)), self))
        return 0;
    *mine = 1;
    return mt_innermost_frame(python, *(mt_u64 *)s->window);
}

/* One step of the search through all interpreters' threads; 1 when it is over. A thread that is just being made
 * carries its maker's thread_id until it runs (CPython 3.11, Python/pystate.c init_threadstate), so one that runs a
 * frame ends the search, and one that does not is only a candidate.
 * (Loop bodies are functions of their own here and in walk.h: the verifier then looks at each once, and not at every
 * way through all their repetitions.) */
__noinline int mt_search_step(mt_u32 account_id, mt_u64 self)
{
    struct mt_account *account = mt_find_account(account_id);
    struct mt_scratch *s = mt_get_scratch();
    if (!account || !s)
        return 1;
    const struct mt_python *python = &account->python;
    if (!s->searched_state) {
        if (!s->searched_interpreter)
            return 1;
        s->searched_state = mt_read_user_u64(s->searched_interpreter + python->interpreter_threads_head);
        s->searched_interpreter = mt_read_user_u64(s->searched_interpreter + python->interpreter_next);
        return 0;
    }
    int mine;
    mt_u64 frame = mt_current_frame(python, s, s->searched_state, self, &mine);
    if (frame || (mine && !s->found_state))
        s->found_state = s->searched_state;
    s->searched_state = mt_read_user_u64(s->searched_state + python->thread_next);
    return frame != 0;
}

static __always_inline mt_u64 mt_newest_interpreter(const struct mt_python *python)
{
    return mt_read_user_u64(python->runtime + python->runtime_interpreters_head);
}

/* pthread_self() of the running thread. */
static __always_inline mt_u64 mt_pthread_self(const struct mt_python *python)
{
    return mt_thread_pointer(mt_current_task()) - python->pthread_pointer;
}

#define MT_KEYS_IN_PTHREAD 32 /* PTHREAD_KEY_2NDLEVEL_SIZE, glibc 2.31 to 2.43: later keys are elsewhere */

/* What pthread_getspecific() would give the running thread as its state; 0 when that cannot be told. It may be anything that
 * the program has put there: whose state it is must be checked. */
static __always_inline mt_u64 mt_thread_specific_state(const struct mt_python *python, mt_u64 self)
{
    mt_u32 key = MT_KEYS_IN_PTHREAD;
    if (python->runtime_thread_key == MT_NO_FIELD || python->pthread_specific == MT_NO_FIELD ||
        bpf_probe_read_user(&key, sizeof(key), (void *)(python->runtime + python->runtime_thread_key)) ||
        key >= MT_KEYS_IN_PTHREAD)
        return 0;
    return mt_read_user_u64(self + python->pthread_specific + 16 * key + 8); /* struct pthread_key_data: seq, data */
}

/* Looks for the running thread's state when none is remembered, or the one remembered runs nothing. `interpreter` is the
 * newest one. With several, a thread may have a state in each, and is in the newest that runs a frame: the interpreter that
 * another made last is the one it runs code in. */
__noinline int mt_search_thread(mt_u32 account_id, mt_u32 tid, mt_u64 self, mt_u64 interpreter)
{
    struct mt_account *account = mt_find_account(account_id);
    struct mt_thread *thread = bpf_map_lookup_elem(&threads, &tid);
    struct mt_scratch *s = mt_get_scratch();
    if (!account || !thread || !s)
        return 0;
    const struct mt_python *python = &account->python;
    if (!interpreter)
        return 0;
    int is_only = !mt_read_user_u64(interpreter + python->interpreter_next), mine = 0;
    mt_u64 specific = is_only ? mt_thread_specific_state(python, self) : 0;
    if (specific && mt_current_frame(python, s, specific, self, &mine)) {
        thread->state = specific;
        thread->interpreter = interpreter;
        return 0;
    }
    /* New states are put at the list's head: while the head is the same and not ours, there is nothing new to find. */
    mt_u64 newest = mt_read_user_u64(interpreter + python->interpreter_threads_head);
    if (interpreter == thread->interpreter && newest == thread->no_state_at &&
        !mt_is_running_thread(python, mt_read_user_u64(newest + python->thread_id), self))
        return 0;
    s->searched_interpreter = interpreter;
    s->searched_state = 0;
    s->found_state = 0;
    for (int step = 0; step < MT_MAX_THREAD_STATES; step++)
        if (mt_search_step(account_id, self))
            break;
    thread->state = s->found_state;
    thread->interpreter = is_only ? interpreter : 0;
    thread->no_state_at = newest;
    return 0;
}

/* The running thread's innermost frame; 0 when it runs no Python. */
static __always_inline mt_u64 mt_find_frame(struct mt_account *account, struct mt_scratch *s,
                                            const struct mt_thread *thread, mt_u32 tid, mt_u64 self)
{
    int mine;
    const struct mt_python *python = &account->python;
    if (thread->state && thread->interpreter && thread->interpreter == account->interpreter) {
        mt_u64 frame = mt_current_frame(python, s, thread->state, self, &mine);
        if (frame)
            return frame;
    }
    account->interpreter = mt_newest_interpreter(python);
    mt_search_thread(account->id, tid, self, account->interpreter);
    return thread->state ? mt_current_frame(&account->python, s, thread->state, self, &mine) : 0;
}

/* Whether the state remembered is that of the running thread. */
static __always_inline int mt_is_own_state(const struct mt_account *account, const struct mt_thread *thread)
{
    return thread->state && account->python.state == MT_PYTHON_READY &&
           mt_is_running_thread(&account->python, mt_read_user_u64(thread->state + account->python.thread_id),
                                mt_pthread_self(&account->python));
}

/* The running thread's innermost frame, for programs that may be preempted: without the scratch, so without a search. 0
 * until a memory event has found the thread's state. */
static __noinline mt_u64 mt_read_frame(const struct mt_account *account)
{
    mt_u32 tid = bpf_get_current_pid_tgid();
    const struct mt_thread *thread = bpf_map_lookup_elem(&threads, &tid);
    if (!thread || !mt_is_own_state(account, thread))
        return 0;
    return mt_innermost_frame(&account->python, mt_read_user_u64(thread->state + account->python.thread_frame));
}

/* The same, but for frames that belong to C code: a thread that runs no Python function may have one. */
static __always_inline mt_u64 mt_read_python_frame(const struct mt_account *account)
{
    mt_u64 frame = mt_read_frame(account);
    if (frame && account->python.frame_owner != MT_NO_FIELD &&
        mt_is_owned_by_c(&account->python, mt_read_user_u64(frame + account->python.frame_owner)))
        frame = mt_read_user_u64(frame + account->python.frame_previous);
    return frame;
}

#endif
