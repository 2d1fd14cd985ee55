/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Adding a change of the resident set to its owner's row. */
#ifndef MEMTRACE_BPF_CHARGE_H
#define MEMTRACE_BPF_CHARGE_H

static __always_inline void mt_charge_pages(struct mt_account *account, const struct mt_charge_key *key, mt_u32 member,
                                            mt_s64 pages)
{
    struct mt_charge *charge = mt_find_or_make(&charges, key, &mt_new_charge);
    if (!charge) {
        mt_count_failure(MT_FAIL_CHARGES_FULL);
        return;
    }
    mt_u64 at = mt_member_index(member);
    if (pages > 0)
        __sync_fetch_and_add(&charge->grown[at], pages);
    else
        __sync_fetch_and_add(&charge->returned[at], -pages);
    if (member != MT_SWAP)
        __sync_fetch_and_add(&account->rss, pages);
    /* From here on two threads may overwrite each other's: a count of kernel events, an order, a high-water mark. Only
     * sums of pages are worth a locked instruction. */
    charge->events += 1;
    charge->last_sequence = account->sequence += 1;
    mt_s64 rss = account->rss;
    charge->rss_after = rss;
    if (rss > charge->rss_peak)
        charge->rss_peak = rss;
    if (rss > account->peak_rss)
        account->peak_rss = rss;
}

#endif
