/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* The moment at which a program has run to its end, and all its memory is still there: after its threads have ended and its
 * atexit functions have run, before the interpreter clears the first module. Py_FinalizeEx() in Python/pylifecycle.c (2.7:
 * Py_Finalize() in Python/pythonrun.c) does two things then that can be seen from outside:
 *
 *   it gives back the signals it handles  sys_enter_rt_sigaction. There are none where SIGINT was ignored from the start, as in a
 *                                         script's background job, or where the program has changed that
 *   it calls a function of its own        a uprobe at its entry (process/find_python.cpp names it); where the kernel lets us
 *
 * The first one that comes counts. Nothing of Python runs then, which tells it from a program that calls signal.signal() or
 * gc.collect(), and from 3.6 on the interpreter says itself that it is finalizing.
 *
 * The process is stopped there, and userspace, which looks at it, lets it go on. It is a child of memtrace, so that no
 * other parent sees the stop, and has asked the kernel to be let go if memtrace ends (cli/child.cpp). */
#ifndef MEMTRACE_BPF_ENDING_H
#define MEMTRACE_BPF_ENDING_H

#define MT_SIGSTOP 19 /* uapi/asm-generic/signal.h */
#define MT_SIG_DFL 0

mt_u32 mt_stop_at_end_tgid; /* 0: none, or it was stopped */
mt_u64 mt_finalizing_word;  /* its interpreter's, not 0 once it is finalizing; 0: there is none, or it is not known yet */

static __always_inline int mt_may_be_ending(void)
{
    mt_u32 tgid = bpf_get_current_pid_tgid() >> 32;
    return mt_stop_at_end_tgid && tgid == mt_stop_at_end_tgid;
}

/* Stops the running process, unless it runs Python. */
static __always_inline int mt_stop_at_end(void)
{
    mt_u32 tid = bpf_get_current_pid_tgid();
    const struct mt_account *account = mt_current_account();
    const struct mt_thread *thread = bpf_map_lookup_elem(&threads, &tid);
    if (!account || !thread || !mt_is_own_state(account, thread) || mt_read_python_frame(account) ||
        (mt_finalizing_word && !mt_read_user_u64(mt_finalizing_word)))
        return 0;
    struct mt_ending_record record = {.record = {.kind = MT_RECORD_ENDING, .account = account->id},
                                      .ns = bpf_ktime_get_ns()};
    if (bpf_ringbuf_output(&records, &record, sizeof(record), BPF_RB_FORCE_WAKEUP))
        return 0; /* who would let it go on? */
    mt_stop_at_end_tgid = 0;
    bpf_send_signal(MT_SIGSTOP);
    return 0;
}

static __always_inline int mt_on_finalizing(void)
{
    return mt_may_be_ending() ? mt_stop_at_end() : 0;
}

static __always_inline int mt_on_signal_change(mt_u64 action)
{
    mt_u64 handler = 1;
    if (!mt_may_be_ending() || !action || bpf_probe_read_user(&handler, sizeof(handler), (void *)action) ||
        handler != MT_SIG_DFL)
        return 0;
    return mt_stop_at_end();
}

#endif
