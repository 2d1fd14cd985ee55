/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* How much an address space's resident-set counters changed: what tp_btf/rss_stat does not say.
 *
 * Since Linux 6.2 (f1a7941243c1) mm_struct.rss_stat is four percpu_counters. An update lands in the running CPU's
 * share, and moves into `count` once the share reaches a batch, leaving exactly 0 behind:
 *
 *     event        cpu 0's share   count    seen share, folded   delta
 *     +1 page      30 -> 31        64       30, 64               +1
 *     +1 page      31 -> 0         96       31, 64               (0 - 31) + (96 - 64) = +1
 *
 * So only a share of 0 can hide a fold, and only then is `count` read. Updates run under the page-table lock and the
 * tracepoint right after them, on the same CPU. Every delta is "now less last seen", so that a missed event is made
 * up for by the next one and the sum stays true.
 *
 * Another CPU may have folded too, whose event is still to come: mt_own_fold tells the two apart, for faults of single
 * pages and one call that unmaps. More than that at one instant (large pages, two calls) may be charged to each other;
 * the sum is right. */
#ifndef MEMTRACE_BPF_RSS_H
#define MEMTRACE_BPF_RSS_H

static __always_inline mt_u64 mt_read_word(mt_u64 address)
{
    mt_u64 word = 0;
    bpf_probe_read_kernel(&word, sizeof(word), (void *)address);
    return word;
}

/* Where a per-CPU pointer points on a CPU is the pointer plus that CPU's offset. The kernel's own table of offsets is
 * not in every kallsyms, so it is taken from a per-CPU object that is ours: the scratch map's only row, whose address
 * on each CPU the map gives, and whose per-CPU pointer struct bpf_array holds. */
static mt_u64 mt_scratch_map = 0;

/* Before Linux 5.19 there is no such helper, nor such counters. The verifier looks at every global function, whether it is
 * called or not. */
static __always_inline struct mt_scratch *mt_scratch_on(mt_u32 cpu)
{
    mt_u32 zero = 0;
    if (!bpf_core_enum_value_exists(enum bpf_func_id, BPF_FUNC_map_lookup_percpu_elem))
        return 0;
    return bpf_map_lookup_percpu_elem(&scratch, &zero, cpu);
}

static __always_inline void mt_learn_cpu_offsets(void)
{
    if (mt_scratch_map)
        return;
    /* Addresses go through memory: the verifier allows no arithmetic on what it knows to be a pointer. */
    *(volatile mt_u64 *)&mt_scratch_map = (mt_u64)&scratch;
    mt_u64 map = *(volatile mt_u64 *)&mt_scratch_map;
    mt_u64 pointer = mt_read_word(map + bpf_core_field_offset(struct bpf_array, pptrs));
    for (mt_u32 cpu = 0; cpu < mt_cpus; cpu++) {
        struct mt_scratch *there = mt_scratch_on(cpu);
        if (!there)
            return;
        *(volatile mt_u64 *)&there->cpu_offset = (mt_u64)there;
        there->cpu_offset = *(volatile mt_u64 *)&there->cpu_offset - pointer;
    }
}

static __always_inline mt_u64 mt_cpu_offset(mt_u32 cpu)
{
    struct mt_scratch *there = mt_scratch_on(cpu);
    return there ? there->cpu_offset : 0;
}

static __always_inline mt_u64 mt_this_cpu_offset(void)
{
    struct mt_scratch *here = mt_get_scratch();
    return here ? here->cpu_offset : 0;
}

struct percpu_counter___mt {
    mt_s64 count;
    mt_s32 *counters;
} __attribute__((preserve_access_index));

struct mm_struct___mt {
    struct percpu_counter___mt rss_stat[MT_MEMBERS];
} __attribute__((preserve_access_index));

/* Before Linux 6.2: plain atomic counters, behind which every thread keeps up to 64 events of its own. Only the classic
 * tracepoint is used there; this shape gives the balances. */
struct mm_rss_stat___before_6_2 {
    atomic_long_t count[MT_MEMBERS];
} __attribute__((preserve_access_index));

struct mm_struct___before_6_2 {
    struct mm_rss_stat___before_6_2 rss_stat;
} __attribute__((preserve_access_index));

static __always_inline mt_u64 mt_counter_address(mt_u64 mm, mt_u32 member)
{
    return mm + bpf_core_field_offset(struct mm_struct___mt, rss_stat) +
           member * bpf_core_type_size(struct percpu_counter___mt);
}

static __always_inline mt_s64 mt_read_folded(mt_u64 mm, mt_u32 member)
{
    return (mt_s64)mt_read_word(mt_counter_address(mm, member) +
                                bpf_core_field_offset(struct percpu_counter___mt, count));
}

static __always_inline mt_s32 mt_read_share(mt_u64 per_cpu_base, mt_u64 cpu_offset)
{
    mt_s32 share = 0;
    bpf_probe_read_kernel(&share, sizeof(share), (void *)(per_cpu_base + cpu_offset));
    return share;
}

static __always_inline mt_s64 mt_read_atomic_counter(mt_u64 mm, mt_u32 member)
{
    if (!bpf_core_field_exists(struct mm_struct___before_6_2, rss_stat.count))
        return 0;
    return (mt_s64)mt_read_word(mm + bpf_core_field_offset(struct mm_struct___before_6_2, rss_stat) +
                                member * sizeof(mt_s64));
}

/* What this member's share is on a CPU; `remember` also makes it the last value seen. Pages.
 * Functions of their own, this and mt_filled_on(), so that the verifier looks at them once, and not for each CPU and each way
 * that the CPUs before took: else it gives up from 4 CPUs on. */
__noinline mt_s64 mt_share_on(mt_u32 account_id, mt_u32 member, mt_u64 base, mt_u32 cpu, int remember)
{
    mt_u64 at = mt_member_index(member);
    mt_s32 share = mt_read_share(base, mt_cpu_offset(cpu));
    mt_u32 row = mt_slot(account_id) * mt_cpus + cpu;
    struct mt_cpu_share *seen = remember ? bpf_map_lookup_elem(&cpu_shares, &row) : 0;
    if (seen)
        seen->seen[at] = share;
    return share;
}

/* What the kernel counts for this member now, all CPUs together; `remember` also makes it the last value seen.
 * Read again when a fold happened meanwhile. Returns pages. */
static __noinline mt_s64 mt_read_counter(struct mt_account *account, mt_u64 mm, mt_u32 member, int remember)
{
    mt_u64 at = mt_member_index(member);
    if (!bpf_core_field_exists(struct mm_struct___mt, rss_stat)) {
        mt_s64 pages = mt_read_atomic_counter(mm, member);
        if (remember)
            account->folded[at] = pages;
        return pages;
    }
    mt_learn_cpu_offsets();
    mt_u64 base =
        mt_read_word(mt_counter_address(mm, member) + bpf_core_field_offset(struct percpu_counter___mt, counters));
    mt_s64 sum = 0;
    for (int attempt = 0; attempt < 3; attempt++) {
        mt_s64 folded = mt_read_folded(mm, member);
        sum = folded;
        for (mt_u32 cpu = 0; cpu < mt_cpus; cpu++)
            sum += mt_share_on(account->id, member, base, cpu, remember);
        if (remember) {
            account->folded[at] = mt_classic ? sum : folded;
            account->per_cpu_base[at] = base;
        }
        if (mt_read_folded(mm, member) == folded)
            break;
    }
    return sum;
}

/* What is folded when a share of this size is changed by one page more; 0: nothing. */
static __always_inline mt_s64 mt_one_page_more(mt_s64 share)
{
    if (share == mt_counter_batch - 1)
        return mt_counter_batch;
    return share == 1 - mt_counter_batch ? -mt_counter_batch : 0;
}

/* What was folded since the last that was taken. */
static __always_inline mt_s64 mt_untaken_fold(const struct mt_account *account, mt_u64 at)
{
    mt_s64 folded = mt_read_folded(account->mm, at);
    return folded - *(volatile const mt_s64 *)&account->folded[at];
}

/* What a fault on another CPU has folded that it has yet to take, having filled up the share there; mostly 0. */
__noinline mt_s64 mt_filled_on(mt_u32 account_id, mt_u32 member, mt_u32 cpu)
{
    struct mt_account *account = mt_find_account(account_id);
    mt_u64 at = mt_member_index(member);
    mt_u32 row = mt_slot(account_id) * mt_cpus + cpu;
    struct mt_cpu_share *seen = bpf_map_lookup_elem(&cpu_shares, &row);
    if (!account || !seen)
        return 0;
    mt_s64 filled = mt_one_page_more(*(volatile mt_s32 *)&seen->seen[at]);
    return filled && mt_read_share(account->per_cpu_base[at], mt_cpu_offset(cpu)) == 0 ? filled : 0;
}

/* The same of all other CPUs. */
static __always_inline mt_s64 mt_filled_elsewhere(mt_u32 account_id, mt_u32 member)
{
    mt_u32 here = bpf_get_smp_processor_id();
    mt_s64 pages = 0;
    for (mt_u32 cpu = 0; cpu < mt_cpus; cpu++)
        if (cpu != here)
            pages += mt_filled_on(account_id, member, cpu);
    return pages;
}

/* How much this CPU has folded just now, when others may have too. Its share was `before`. */
__noinline mt_s64 mt_own_fold(mt_u32 account_id, mt_u32 member, mt_s64 before)
{
    struct mt_account *account = mt_find_account(account_id);
    mt_u64 at = mt_member_index(member);
    if (!account)
        return 0;
    mt_s64 fold = 0, filled = mt_filled_elsewhere(account_id, member);
    for (int attempt = 0; attempt < 4; attempt++) {
        fold = mt_untaken_fold(account, at) - filled;
        mt_s64 filled_before = filled;
        filled = mt_filled_elsewhere(account_id, member);
        if (filled == filled_before)
            break;
    }
    /* A fault that another thread's unmapping has come between: it adds a page, and does not take many. */
    mt_u32 tid = bpf_get_current_pid_tgid();
    struct mt_thread *thread = bpf_map_lookup_elem(&threads, &tid);
    mt_s64 own = mt_one_page_more(before);
    if (thread && !thread->call && account->calling > 0 && own >= 0 && fold < own)
        return own;
    return fold;
}

/* Pages by which `member` changed since this CPU looked last. Call from tp_btf/rss_stat, once an event. */
static __always_inline mt_s64 mt_rss_delta(struct mt_account *account, mt_u32 member)
{
    mt_u32 row = mt_slot(account->id) * mt_cpus + bpf_get_smp_processor_id();
    struct mt_cpu_share *seen = bpf_map_lookup_elem(&cpu_shares, &row);
    if (!seen)
        return 0;
    mt_u64 at = mt_member_index(member);
    mt_s32 share = mt_read_share(account->per_cpu_base[at], mt_this_cpu_offset()), before = seen->seen[at];
    mt_s64 fold = 0;
    if (share == 0) {
        fold = mt_untaken_fold(account, at);
        struct mm_struct *mm = (struct mm_struct *)account->mm;
        if (BPF_CORE_READ(mm, mm_users.counter) > 1 && (fold != mt_one_page_more(before) || account->calling > 0))
            fold = mt_own_fold(account->id, at, before);
        __sync_fetch_and_add(&account->folded[at], fold);
    }
    seen->seen[at] = share; /* after the fold is taken: mt_own_fold */
    return share - before + fold;
}

#endif
