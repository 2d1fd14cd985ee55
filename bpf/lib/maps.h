/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* All maps and all settings, in one place. Sizes given here are defaults; userspace sets those that depend on the
 * machine (cpu_shares) before loading. */
#ifndef MEMTRACE_BPF_MAPS_H
#define MEMTRACE_BPF_MAPS_H

/* Settings, fixed when the programs are loaded. */
const volatile mt_u32 mt_cpus = 1;            /* possible CPUs */
const volatile mt_s32 mt_counter_batch = 32;  /* percpu_counter_batch, lib/percpu_counter.c */
const volatile mt_u32 mt_page_shift = 12;
const volatile mt_u8 mt_classic = 0; /* 1: kmem:rss_stat is attached in place of tp_btf/rss_stat */
const volatile mt_u32 mt_call_numbers[MT_CALLS] = {}; /* enum mt_call -> system call number */
const volatile mt_u32 mt_sigaction_number = 0;        /* of rt_sigaction */
const volatile mt_u8 mt_follow_children = 1;  /* open accounts for forked children */

const volatile mt_u8 mt_line_engine = 0;      /* 1: python:line is attached */
const volatile mt_u8 mt_owners = 0;           /* 1: who made each page resident is told */

/* What the task iterator is asked to do, set by userspace before it reads the iterator. */
mt_u32 mt_command = MT_COMMAND_NONE;
mt_u32 mt_command_tgid = 0;
struct mt_python mt_command_python = {};
mt_u32 mt_stopping = 0; /* 1: open no more accounts */
mt_u32 mt_tracer_tgid = 0; /* memtrace itself, as who reads the iterator */
mt_u32 mt_line_count = 0; /* lines met by the line engine */

/* account slot -> account */
struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(map_flags, BPF_F_MMAPABLE);
    __uint(max_entries, MT_SLOTS);
    __type(key, mt_u32);
    __type(value, struct mt_account);
} accounts SEC(".maps");

/* ids of accounts that may be opened; userspace gives back those it has reported */
struct {
    __uint(type, BPF_MAP_TYPE_QUEUE);
    __uint(max_entries, MT_SLOTS);
    __uint(value_size, sizeof(mt_u32));
} free_accounts SEC(".maps");

/* mm_struct address -> account id: the filter that every resident-set event of the host passes first */
struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, MT_SLOTS);
    __type(key, mt_u64);
    __type(value, mt_u32);
} accounts_by_mm SEC(".maps");

/* classic tracepoint only: its hash of the mm -> account id */
struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, MT_SLOTS);
    __type(key, mt_u32);
    __type(value, mt_u32);
} accounts_by_mm_id SEC(".maps");

/* slot * mt_cpus + cpu -> what that CPU's share of the counters was */
struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, MT_SLOTS);
    __type(key, mt_u32);
    __type(value, struct mt_cpu_share);
} cpu_shares SEC(".maps");

/* tgid -> process followed */
struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 2 * MT_SLOTS);
    __type(key, mt_u32);
    __type(value, struct mt_process);
} processes SEC(".maps");

/* executable -> the interpreter it holds, with addresses as the file has them: known before it execs again */
struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 256);
    __type(key, struct mt_file_id);
    __type(value, struct mt_python);
} interpreters SEC(".maps");

/* tid -> what is remembered of the thread */
struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 16384);
    __type(key, mt_u32);
    __type(value, struct mt_thread);
} threads SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 65536);
    __type(key, struct mt_charge_key);
    __type(value, struct mt_charge);
} charges SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 32768);
    __type(key, struct mt_call_key);
    __type(value, struct mt_call_sum);
} calls SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 16384);
    __type(key, struct mt_collection_key);
    __type(value, struct mt_collection_sum);
} collections SEC(".maps");

/* Stacks and code objects that userspace has been sent. Forgetting one only means that it is sent again. */
struct mt_published_key {
    mt_u64 stack;
    mt_u64 account;
};
struct {
    __uint(type, BPF_MAP_TYPE_LRU_HASH);
    __uint(max_entries, 65536);
    __type(key, struct mt_published_key);
    __type(value, mt_u8);
} published_stacks SEC(".maps");
struct {
    __uint(type, BPF_MAP_TYPE_LRU_HASH);
    __uint(max_entries, 32768);
    __type(key, struct mt_code_key);
    __type(value, mt_u8);
} published_codes SEC(".maps");

/* Native code that is or may be named. One that is forgotten is counted anew. */
struct {
    __uint(type, BPF_MAP_TYPE_LRU_HASH);
    __uint(max_entries, 16384);
    __type(key, struct mt_native_key);
    __type(value, struct mt_native_site);
} native_sites SEC(".maps");

/* Lines that python:line or python:function__entry named */
struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 131072);
    __type(key, struct mt_line_key);
    __type(value, struct mt_line_row);
} lines SEC(".maps");

/* The line engine's */
struct {
    __uint(type, BPF_MAP_TYPE_TASK_STORAGE);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __type(key, int);
    __type(value, struct mt_line_thread);
} line_threads SEC(".maps");
struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, MT_SITES);
    __type(key, mt_u32);
    __type(value, struct mt_line_site);
} line_sites SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_RINGBUF);
    __uint(max_entries, 4 * 1024 * 1024);
} records SEC(".maps");

/* With --owners: account slot * mt_cpus + cpu -> what that CPU has yet to send */
struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, MT_SLOTS);
    __type(key, mt_u32);
    __type(value, struct mt_owner_run);
} owner_runs SEC(".maps");
struct {
    __uint(type, BPF_MAP_TYPE_RINGBUF);
    __uint(max_entries, 4 * 1024 * 1024);
} owner_records SEC(".maps");

/* With --owners: pages that were copied because another process has them too; mt_charge_key.call is an mt_write */
struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 16384);
    __type(key, struct mt_charge_key);
    __type(value, mt_u64);
} copies SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, MT_FAILURES);
    __type(key, mt_u32);
    __type(value, mt_u64);
} failures SEC(".maps");

/* What does not fit on a BPF program's 512 bytes of stack. A CPU's copy has one user at a time, which takes it for as long
 * (mt_find_place): from Linux 7.0 on tracepoints' programs can be preempted. */
#define MT_WINDOW 512
struct mt_scratch {
    mt_u64 taken; /* 1: by a program that runs, or was preempted */
    mt_u32 lines_met; /* on this CPU: lib/probed_lines.h */
    mt_u64 cpu_offset; /* of this CPU's per-CPU variables: lib/rss.h */
    mt_u64 searched_interpreter; /* where the search for a thread state is */
    mt_u64 searched_state;
    mt_u64 found_state;
    mt_u64 frame; /* next to be walked */
    mt_u64 chain; /* hash of the frames just walked */
    mt_u64 stack; /* name of the stack being named */
    mt_u64 native; /* name of the native place that mt_name_native found */
    mt_u64 window_at;            /* the process's bytes [window_at, window_at + window_size) are in window */
    mt_u64 window_size;
    mt_u8 window[2 * MT_WINDOW];
    struct mt_stack_record walk;
    struct mt_code_record code;
};
struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, 1);
    __type(key, mt_u32);
    __type(value, struct mt_scratch);
} scratch SEC(".maps");

static __always_inline void mt_count_failure(mt_u32 kind)
{
    mt_u64 *count = bpf_map_lookup_elem(&failures, &kind);
    if (count)
        *count += 1;
}

/* New rows. Not on the stack: it has 512 bytes, for all functions that call each other. */
static const struct mt_thread mt_new_thread = {};
static const struct mt_charge mt_new_charge = {};
static const struct mt_call_sum mt_new_call_sum = {};
static const struct mt_collection_sum mt_new_collection_sum = {};

/* The row of `key`, which is made of `zero` when there is none; null when the map is full. */
static __always_inline void *mt_find_or_make(void *map, const void *key, const void *zero)
{
    void *row = bpf_map_lookup_elem(map, key);
    if (row)
        return row;
    bpf_map_update_elem(map, key, zero, BPF_NOEXIST);
    return bpf_map_lookup_elem(map, key);
}

static __always_inline struct mt_scratch *mt_get_scratch(void)
{
    mt_u32 zero = 0;
    struct mt_scratch *s = bpf_map_lookup_elem(&scratch, &zero);
    if (!s)
        mt_count_failure(MT_FAIL_NO_SCRATCH);
    return s;
}

/* The value, of which the compiler then knows nothing. It can move no check of it to 32 bits or to another register, where
 * verifiers before Linux 6.11 lose sight of the bound: to be used on what is checked next, as 64 bits. */
static __always_inline mt_u64 mt_opaque(mt_u64 value)
{
    asm volatile("" : "+r"(value));
    return value;
}

/* The same, for one user; null when it is in use by a program that this one has preempted (counted). */
static __always_inline struct mt_scratch *mt_take_scratch(void)
{
    struct mt_scratch *s = mt_get_scratch();
    if (!s)
        return 0;
#ifdef MT_BEFORE_5_12
    mt_u64 taken = s->taken;
    s->taken = 1;
#else
    mt_u64 taken = __sync_lock_test_and_set(&s->taken, 1);
#endif
    if (!taken)
        return s;
    mt_count_failure(MT_FAIL_PREEMPTED);
    return 0;
}

/* A value that was checked to be below `limit`, a power of two, once more in a way that no verifier loses sight of: what is
 * kept on the stack between a check and its use may be loaded again, and bounds before Linux 6.11 do not follow. */
static __always_inline mt_u64 mt_below(mt_u64 value, mt_u64 limit)
{
    return mt_opaque(value) & (limit - 1);
}

/* A member as an array index. */
static __always_inline mt_u64 mt_member_index(mt_u64 member)
{
    return mt_below(member, MT_MEMBERS);
}

static __always_inline mt_u32 mt_slot(mt_u32 account_id)
{
    return account_id & (MT_SLOTS - 1);
}

/* The account of this id, or null when it was closed and its slot belongs to another. */
static __always_inline struct mt_account *mt_find_account(mt_u32 id)
{
    mt_u32 slot = mt_slot(id);
    struct mt_account *account = bpf_map_lookup_elem(&accounts, &slot);
    return account && account->id == id && account->state == MT_ACCOUNT_OPEN ? account : 0;
}

/* A thread's row, made when it is new. */
static __always_inline struct mt_thread *mt_thread_row(mt_u32 tid)
{
    struct mt_thread *thread = mt_find_or_make(&threads, &tid, &mt_new_thread);
    if (!thread)
        mt_count_failure(MT_FAIL_THREADS_FULL);
    return thread;
}

/* The running process's account; null when it is not followed. */
static __always_inline struct mt_account *mt_current_account(void)
{
    mt_u32 tgid = bpf_get_current_pid_tgid() >> 32;
    struct mt_process *process = bpf_map_lookup_elem(&processes, &tgid);
    return process ? mt_find_account(process->account) : 0;
}

#endif
