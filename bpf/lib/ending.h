/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* The moment at which a program has run to its end, and all its memory is still there. CPython gives the signals back
 * that it handles (SIGINT, unless the program has changed that) after threads have ended and atexit functions have run,
 * and before it clears the first module: PyOS_FiniInterrupts() in Python/pythonrun.c of 2.7, _PySignal_Fini() in
 * Python/pylifecycle.c since. Nothing of Python runs then, which tells it from a program that calls signal.signal().
 *
 * The process is stopped there, and userspace, which looks at it, lets it go on. It is a child of memtrace, so that no
 * other parent sees the stop, and has asked the kernel to be let go if memtrace ends (cli/child.cpp). */
#ifndef MEMTRACE_BPF_ENDING_H
#define MEMTRACE_BPF_ENDING_H

#define MT_SIGSTOP 19 /* uapi/asm-generic/signal.h */
#define MT_SIG_DFL 0

mt_u32 mt_stop_at_end_tgid; /* 0: none, or it was stopped */

static __always_inline int mt_on_signal_change(mt_u64 action)
{
    mt_u64 pid_tgid = bpf_get_current_pid_tgid();
    mt_u32 tgid = pid_tgid >> 32, tid = pid_tgid;
    if (!mt_stop_at_end_tgid || tgid != mt_stop_at_end_tgid || !action)
        return 0;
    mt_u64 handler = 1;
    if (bpf_probe_read_user(&handler, sizeof(handler), (void *)action) || handler != MT_SIG_DFL)
        return 0;
    const struct mt_account *account = mt_current_account();
    const struct mt_thread *thread = bpf_map_lookup_elem(&threads, &tid);
    if (!account || !thread || !mt_is_own_state(account, thread) || mt_read_python_frame(account))
        return 0;
    struct mt_record record = {.kind = MT_RECORD_ENDING, .account = account->id};
    if (bpf_ringbuf_output(&records, &record, sizeof(record), BPF_RB_FORCE_WAKEUP))
        return 0; /* who would let it go on? */
    mt_stop_at_end_tgid = 0;
    bpf_send_signal(MT_SIGSTOP);
    return 0;
}

#endif
