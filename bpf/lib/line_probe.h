/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* The line engine: every hit of python:line, (file name, function name, line number).
 *
 *   hit        counts the line, and notes in the thread's table at which line this frame now is
 *   memory     lib/walk.h walks the frames as ever, and looks up each one's line in that table
 *
 * So the interpreter's own frames say who called whom, through recursion, generators and exceptions, and the probe says
 * where in each function they are. Every line of the program pays for a hit: lib/probed_lines.h says what costs how much,
 * and so the frame too is taken from a register.
 *
 * The program may be preempted: it must not touch the per-CPU scratch. */
#ifndef MEMTRACE_BPF_LINE_PROBE_H
#define MEMTRACE_BPF_LINE_PROBE_H

/* No USDT argument says which frame it is, but compilers keep it in a register nearby. Which one is found out: the
 * registers that held the true frame, read through the thread state, at each of this many changes of frame. */
#define MT_FRAME_CONFIRMATIONS 64
/* And is checked ever after, once in this many hits of a thread. */
#define MT_FRAME_CHECK_MASK 255

/* Functions of their own, so that the verifier does not follow all 2^32 ways through the loop that uses them. */
__noinline mt_u32 mt_equal(mt_u64 a, mt_u64 b)
{
    return a == b;
}

__noinline mt_u32 mt_lowest_bit(mt_u32 bits)
{
    for (mt_u32 i = 0; i < 32; i++)
        if (bits & 1u << i)
            return i;
    return 0;
}

/* Takes what one more true frame says about the registers. */
static __noinline void mt_learn_frame_register(struct mt_line_site *site, const mt_u64 *registers, mt_u64 frame)
{
    mt_u32 same = 0;
    for (mt_u32 i = 0; i < MT_PROBE_REGISTERS; i++)
        same |= (mt_equal(registers[i], frame) & 1) << i;
    site->candidates &= same;
    if (frame == site->last_frame)
        return;
    site->last_frame = frame;
    if (++site->confirmations < MT_FRAME_CONFIRMATIONS || !site->candidates)
        return;
    site->frame_register = mt_lowest_bit(site->candidates);
    site->state = MT_SITE_LEARNED;
}

/* The frame that this hit is of; 0 when it cannot be known yet. */
static __always_inline mt_u64 mt_probed_frame(const struct mt_account *account, struct mt_line_site *site,
                                              const mt_u64 *registers, mt_u64 hit)
{
    if (site->state == MT_SITE_LEARNED) {
        mt_u64 frame = registers[site->frame_register & (MT_PROBE_REGISTERS - 1)];
        if (hit & MT_FRAME_CHECK_MASK)
            return frame;
        mt_u64 truth = mt_read_frame(account);
        if (!truth || truth == frame)
            return frame;
        mt_count_failure(MT_FAIL_FRAME_REGISTER);
        site->state = MT_SITE_READ_ALWAYS;
        return truth;
    }
    mt_u64 frame = mt_read_frame(account);
    if (frame && site->state == MT_SITE_LEARNING)
        mt_learn_frame_register(site, registers, frame);
    return frame;
}

static __always_inline mt_u32 mt_frame_slot(mt_u64 frame)
{
    /* From 3.11 on frames lie side by side, each longer than 64 bytes. */
    return (frame >> 6) & (MT_LINE_FRAMES - 1);
}

static __always_inline int mt_on_line(struct pt_regs *context)
{
    struct __bpf_usdt_spec *spec = mt_probe_spec(context);
    struct mt_line_thread *thread =
        bpf_task_storage_get(&line_threads, mt_current_task(), 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
    if (!spec || !thread) {
        mt_count_failure(MT_FAIL_LINE_THREADS_FULL);
        return 0;
    }
    mt_u64 hit = thread->hits++;
    struct mt_account *account = hit ? mt_find_account(thread->account) : 0;
    if (!account) {
        account = mt_current_account();
        if (!account) {
            thread->hits = 0;
            return 0;
        }
        thread->account = account->id;
    }
    mt_u64 registers[MT_PROBE_REGISTERS] = {};
    __builtin_memcpy(registers, context, MT_PROBE_REGISTERS_BYTES);
    struct mt_line_row *row = mt_probed_line(account, spec, registers);
    if (!row)
        return 0;
    row->hits += 1; /* under the GIL: one thread of an address space at a time */
    mt_u32 site_id = spec->usdt_cookie;
    struct mt_line_site *site = bpf_map_lookup_elem(&line_sites, &site_id);
    if (!site)
        return 0;
    mt_u64 frame = mt_probed_frame(account, site, registers, hit);
    if (!frame)
        return 0;
    struct mt_line_frame *entry = &thread->frames[mt_frame_slot(frame)];
    entry->frame = frame;
    entry->line = row->id;
    return 0;
}

/* Which line the probe last reported for this frame of the running thread; 0 when none is remembered. */
static __always_inline mt_u32 mt_line_of_frame(mt_u64 frame)
{
    if (!mt_line_engine)
        return 0;
    struct mt_line_thread *thread = bpf_task_storage_get(&line_threads, mt_current_task(), 0, 0);
    if (!thread)
        return 0;
    struct mt_line_frame *entry = &thread->frames[mt_frame_slot(frame)];
    return entry->frame == frame ? entry->line : 0;
}

#endif
