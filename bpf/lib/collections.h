/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Garbage collections, from python:gc__start(generation) and python:gc__done(objects collected).
 *
 * The programs may be preempted: they must not touch the per-CPU scratch, and so name the innermost frame only, and copy its
 * code object into the ring buffer itself, where there is room for the longest. */
#ifndef MEMTRACE_BPF_COLLECTIONS_H
#define MEMTRACE_BPF_COLLECTIONS_H

/* Adds to `key` the code object, line table and instruction of `frame`, or nothing when they cannot be read. */
static __always_inline void mt_read_place(const struct mt_account *account, mt_u64 frame, struct mt_collection_key *key)
{
    const struct mt_python *python = &account->python;
    mt_u64 code = mt_frame_code(mt_read_user_u64(frame + python->frame_code));
    if (!code || mt_read_user_u64(code + python->object_type) != python->code_type)
        return;
    key->owner = MT_OWNER_STACK;
    key->code = code;
    key->linetable = mt_read_user_u64(code + python->code_lines);
    key->instruction = mt_frame_instruction(python, code, mt_read_user_u64(frame + python->frame_instruction));
}

static __always_inline void mt_announce_code(const struct mt_account *account, mt_u64 code, mt_u64 linetable)
{
    struct mt_code_key key = {.code = code, .linetable = linetable, .account = account->id};
    if (!code || bpf_map_lookup_elem(&published_codes, &key))
        return;
    struct mt_code_record *record = bpf_ringbuf_reserve(&records, sizeof(*record), 0);
    if (!record) {
        mt_count_failure(MT_FAIL_RING_FULL);
        return;
    }
    if (!mt_capture_code(account, code, linetable, record)) {
        bpf_ringbuf_discard(record, BPF_RB_NO_WAKEUP);
        return;
    }
    bpf_ringbuf_submit(record, mt_wakeup_for(record));
    mt_u8 one = 1;
    bpf_map_update_elem(&published_codes, &key, &one, BPF_ANY);
}

static __always_inline int mt_on_gc_start(struct pt_regs *context)
{
    struct mt_account *account = mt_current_account();
    struct mt_thread *thread = account ? mt_thread_row(bpf_get_current_pid_tgid()) : 0;
    if (!thread)
        return 0;
    long generation = 0;
    bpf_usdt_arg(context, 0, &generation);
    thread->collection_generation = generation;
    thread->collection_rss = account->rss;
    thread->collection_start_ns = bpf_ktime_get_ns();
    return 0;
}

/* Bucket of a pause: the power of two of its microseconds, rounded up. */
__noinline mt_u32 mt_pause_bucket(mt_u64 ns)
{
    mt_u32 bucket = 0;
    for (mt_u64 limit = 1000; bucket < MT_PAUSE_BUCKETS - 1 && ns > limit; limit *= 2)
        bucket++;
    return bucket;
}

static __always_inline int mt_on_gc_done(struct pt_regs *context)
{
    mt_u64 now = bpf_ktime_get_ns();
    mt_u32 tid = bpf_get_current_pid_tgid();
    struct mt_thread *thread = bpf_map_lookup_elem(&threads, &tid);
    struct mt_account *account = mt_current_account();
    /* One whose start was not seen is not counted: memtrace attached in the middle of it. */
    if (!thread || !account || !thread->collection_start_ns)
        return 0;
    mt_u64 pause = now - thread->collection_start_ns;
    thread->collection_start_ns = 0;
    struct mt_collection_key key = {.account = account->id, .generation = thread->collection_generation,
                                    .owner = MT_OWNER_LINE_UNKNOWN};
    mt_u64 frame = mt_read_python_frame(account);
    if (!frame && thread->state) {
        key.owner = MT_OWNER_NO_FRAME; /* as when the interpreter ends */
    } else if (frame) {
        mt_read_place(account, frame, &key);
        mt_announce_code(account, key.code, key.linetable);
    }
    struct mt_collection_sum *sum = mt_find_or_make(&collections, &key, &mt_new_collection_sum);
    if (!sum) {
        mt_count_failure(MT_FAIL_COLLECTIONS_FULL);
        return 0;
    }
    long collected = 0;
    bpf_usdt_arg(context, 0, &collected);
    __sync_fetch_and_add(&sum->count, 1);
    __sync_fetch_and_add(&sum->objects, collected);
    __sync_fetch_and_add(&sum->pause_ns, pause);
    __sync_fetch_and_add(&sum->rss_pages, account->rss - thread->collection_rss);
    __sync_fetch_and_add(&sum->pauses[mt_pause_bucket(pause) & (MT_PAUSE_BUCKETS - 1)], 1);
    if (pause > sum->longest_pause_ns)
        sum->longest_pause_ns = pause;
    return 0;
}

#endif
