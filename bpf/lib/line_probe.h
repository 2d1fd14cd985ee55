/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* The line engine: every hit of python:line, (file name, function name, line number).
 *
 *   hit        counts the line, and notes in the thread's table at which line this frame now is
 *   memory     lib/walk.h walks the frames as ever, and looks up each one's line in that table
 *
 * So the interpreter's own frames say who called whom, through recursion, generators and exceptions, and the probe says
 * where in each function they are. A hit is paid for by every line of the program, so it is made of what costs least
 * (measured, ns): the probe's trap 600, bpf_usdt_arg 40 each, an 8-byte read of the process 80, a hash look-up 35,
 * task storage 5. Hence registers are copied once, and the frame is taken from a register too.
 *
 * The program may be preempted: it must not touch the per-CPU scratch. */
#ifndef MEMTRACE_BPF_LINE_PROBE_H
#define MEMTRACE_BPF_LINE_PROBE_H

/* No USDT argument says which frame it is, but compilers keep it in a register nearby. Which one is found out: the
 * registers that held the true frame, read through the thread state, at each of this many changes of frame. */
#define MT_FRAME_CONFIRMATIONS 64
/* And is checked ever after, once in this many hits of a thread. */
#define MT_FRAME_CHECK_MASK 255

static __always_inline mt_u64 mt_probe_argument(const mt_u64 *registers, const struct __bpf_usdt_arg_spec *argument)
{
    mt_u64 value = registers[((mt_u16)argument->reg_off / 8) & (MT_PROBE_REGISTERS - 1)];
    if (argument->arg_type == BPF_USDT_ARG_REG_DEREF)
        value = mt_read_user_u64(value + argument->val_off);
    else if (argument->arg_type == BPF_USDT_ARG_CONST)
        value = argument->val_off;
    value <<= argument->arg_bitshift;
    return argument->arg_signed ? (mt_u64)((mt_s64)value >> argument->arg_bitshift) : value >> argument->arg_bitshift;
}

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

/* The row of a line that was not met before: its names are sent, once. */
static __noinline struct mt_line_row *mt_new_line(const struct mt_line_key *key)
{
    struct mt_line_record *record = bpf_ringbuf_reserve(&records, sizeof(*record), 0);
    if (!record) {
        mt_count_failure(MT_FAIL_RING_FULL);
        return 0;
    }
    struct mt_line_row row = {.id = __sync_fetch_and_add(&mt_line_count, 1) + 1};
    record->record.kind = MT_RECORD_LINE;
    record->record.account = key->account;
    record->id = row.id;
    record->line = key->line;
    record->file[0] = 0;
    record->function[0] = 0;
    bpf_probe_read_user_str(record->file, sizeof(record->file), (void *)key->file);
    bpf_probe_read_user_str(record->function, sizeof(record->function), (void *)key->function);
    mt_u64 waiting = bpf_ringbuf_query(&records, BPF_RB_AVAIL_DATA);
    bpf_ringbuf_submit(record, waiting > (512 << 10) ? BPF_RB_FORCE_WAKEUP : BPF_RB_NO_WAKEUP);
    bpf_map_update_elem(&lines, key, &row, BPF_NOEXIST);
    struct mt_line_row *made = bpf_map_lookup_elem(&lines, key);
    if (!made)
        mt_count_failure(MT_FAIL_LINES_FULL);
    return made;
}

static __always_inline mt_u32 mt_frame_slot(mt_u64 frame)
{
    /* From 3.11 on frames lie side by side, each longer than 64 bytes. */
    return (frame >> 6) & (MT_LINE_FRAMES - 1);
}

static __always_inline int mt_on_line(struct pt_regs *context)
{
    int spec_id = __bpf_usdt_spec_id(context);
    struct __bpf_usdt_spec *spec = bpf_map_lookup_elem(&__bpf_usdt_specs, &spec_id);
    struct mt_line_thread *thread =
        bpf_task_storage_get(&line_threads, bpf_get_current_task_btf(), 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
    if (!spec || !thread) {
        mt_count_failure(MT_FAIL_THREADS_FULL);
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
    struct mt_line_key key = {.file = mt_probe_argument(registers, &spec->args[0]),
                              .function = mt_probe_argument(registers, &spec->args[1]),
                              .account = account->id,
                              .line = mt_probe_argument(registers, &spec->args[2])};
    struct mt_line_row *row = bpf_map_lookup_elem(&lines, &key);
    if (!row) {
        row = mt_new_line(&key);
        if (!row)
            return 0;
    }
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
    struct mt_line_thread *thread = bpf_task_storage_get(&line_threads, bpf_get_current_task_btf(), 0, 0);
    if (!thread)
        return 0;
    struct mt_line_frame *entry = &thread->frames[mt_frame_slot(frame)];
    return entry->frame == frame ? entry->line : 0;
}

#endif
