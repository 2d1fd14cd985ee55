/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Calls of Python functions, from python:function__entry(file name, function name, line number). */
#ifndef MEMTRACE_BPF_FUNCTION_PROBE_H
#define MEMTRACE_BPF_FUNCTION_PROBE_H

static __always_inline int mt_on_function_entry(struct pt_regs *context)
{
    struct __bpf_usdt_spec *spec = mt_probe_spec(context);
    struct mt_account *account = mt_current_account();
    if (!spec || !account)
        return 0;
    mt_u64 registers[MT_PROBE_REGISTERS] = {};
    __builtin_memcpy(registers, context, MT_PROBE_REGISTERS_BYTES);
    struct mt_line_row *row = mt_probed_line(account, spec, registers);
    if (row)
        __sync_fetch_and_add(&row->entries, 1); /* free-threaded builds have this probe */
    return 0;
}

#endif
