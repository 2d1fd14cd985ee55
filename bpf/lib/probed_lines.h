/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Lines as python:line and python:function__entry name them: (file name, function name, line number). A line's row is
 * found by the addresses of the names, so that no string is copied a hit.
 *
 * Called for every line or call of a program, and hence made of what costs least (measured, ns): the probe's trap 600,
 * bpf_usdt_arg 40 each, an 8-byte read of the process 80, a hash look-up 35, task storage 5.
 *
 * May be preempted: it must not touch the per-CPU scratch. */
#ifndef MEMTRACE_BPF_PROBED_LINES_H
#define MEMTRACE_BPF_PROBED_LINES_H

static __always_inline struct __bpf_usdt_spec *mt_probe_spec(struct pt_regs *context)
{
    int id = __bpf_usdt_spec_id(context);
    return bpf_map_lookup_elem(&__bpf_usdt_specs, &id);
}

/* `registers` are the start of pt_regs, copied once: bpf_usdt_arg reads them anew for each argument. */
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

static __always_inline mt_u32 mt_next_line_id(void)
{
#ifdef MT_BEFORE_5_12 /* atomic additions give nothing back; and these programs are not preempted: each CPU counts its own */
    struct mt_scratch *s = mt_get_scratch();
    return s ? 1 + bpf_get_smp_processor_id() + mt_cpus * s->lines_met++ : 0;
#else
    return __sync_fetch_and_add(&mt_line_count, 1) + 1;
#endif
}

/* The row of a line that was not met before: its names are sent, once. */
static __noinline struct mt_line_row *mt_new_line(const struct mt_line_key *key)
{
    struct mt_line_record *record = bpf_ringbuf_reserve(&records, sizeof(*record), 0);
    if (!record) {
        mt_count_failure(MT_FAIL_RING_FULL);
        return 0;
    }
    struct mt_line_row row = {.id = mt_next_line_id()};
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

/* The row of the line that this hit is of; null, counted, when there is no room. */
static __always_inline struct mt_line_row *mt_probed_line(const struct mt_account *account,
                                                          const struct __bpf_usdt_spec *spec, const mt_u64 *registers)
{
    struct mt_line_key key = {.file = mt_probe_argument(registers, &spec->args[0]),
                              .function = mt_probe_argument(registers, &spec->args[1]),
                              .account = account->id,
                              .line = mt_probe_argument(registers, &spec->args[2])};
    struct mt_line_row *row = bpf_map_lookup_elem(&lines, &key);
    return row ? row : mt_new_line(&key);
}

#endif
