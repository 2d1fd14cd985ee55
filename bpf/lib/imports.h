/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Imports, from python:import__find__load__start(module) and python:import__find__load__done(module, found). Rare: each
 * is sent. The programs may be preempted: they must not touch the per-CPU scratch. */
#ifndef MEMTRACE_BPF_IMPORTS_H
#define MEMTRACE_BPF_IMPORTS_H

static __always_inline int mt_on_import(struct pt_regs *context, mt_u8 begins)
{
    struct mt_account *account = mt_current_account();
    if (!account)
        return 0;
    struct mt_import_record *record = bpf_ringbuf_reserve(&records, sizeof(*record), 0);
    if (!record) {
        mt_count_failure(MT_FAIL_RING_FULL);
        return 0;
    }
    long module = 0, found = 0;
    bpf_usdt_arg(context, 0, &module);
    if (!begins)
        bpf_usdt_arg(context, 1, &found);
    record->record.kind = MT_RECORD_IMPORT;
    record->record.account = account->id;
    record->tid = bpf_get_current_pid_tgid();
    record->begins = begins;
    record->found = found != 0;
    record->zero = 0;
    record->ns = bpf_ktime_get_ns();
    record->rss = account->rss;
    record->module[0] = 0;
    bpf_probe_read_user_str(record->module, sizeof(record->module), (void *)module);
    bpf_ringbuf_submit(record, BPF_RB_NO_WAKEUP);
    return 0;
}

#endif
