/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Opening and closing the account of an address space. */
#ifndef MEMTRACE_BPF_ACCOUNT_H
#define MEMTRACE_BPF_ACCOUNT_H

/* Opens an account for `mm` and makes it findable. What is resident already is the opening balance after an attach;
 * after fork and exec the balance is 0 and the pages are charged to [fork] or [exec]. Returns the id, or
 * MT_NO_ACCOUNT when all slots are in use (counted). */
__noinline mt_u32 mt_open_account(mt_u64 mm, mt_u32 tgid, mt_u32 opened_by, mt_u32 parent)
{
    mt_u32 id = 0;
    if (mt_stopping)
        return MT_NO_ACCOUNT;
    if (bpf_map_pop_elem(&free_accounts, &id)) {
        mt_count_failure(MT_FAIL_ACCOUNTS_FULL);
        return MT_NO_ACCOUNT;
    }
    mt_u32 slot = mt_slot(id);
    struct mt_account *account = bpf_map_lookup_elem(&accounts, &slot);
    if (!account)
        return MT_NO_ACCOUNT;
    account->id = id;
    account->tgid = tgid;
    account->opened_by = opened_by;
    account->closed_by = 0;
    account->parent = parent == MT_NO_ACCOUNT ? id : parent;
    account->mm = mm;
    account->opened_ns = bpf_ktime_get_ns();
    account->closed_ns = 0;
    account->rss = 0;
    account->peak_rss = 0;
    account->sequence = 0;
    account->calling = 0;
    account->own_changes = 0;
    account->own_changes_looked_at = 0;
    account->native_names = 0;
    account->has_run_python = opened_by != MT_OPENED_BY_EXEC;
    account->interpreter = 0;
    account->args_length = 0;
    account->mm_id = 0;
    account->executable.device = 0;
    account->executable.inode = 0;

    struct mt_account *forked_from = opened_by == MT_OPENED_BY_FORK ? mt_find_account(parent) : 0;
    if (forked_from) {
        account->python = forked_from->python;
        __builtin_memcpy(account->comm, forked_from->comm, sizeof(account->comm));
        __builtin_memcpy(account->args, forked_from->args, sizeof(account->args));
        account->args_length = forked_from->args_length;
    } else if (opened_by == MT_OPENED_BY_ATTACH) {
        account->python = mt_command_python;
    } else {
        account->python.state = MT_PYTHON_PENDING;
        bpf_get_current_comm(account->comm, sizeof(account->comm));
    }

    struct mt_charge_key key = {.account = id,
                                .owner = opened_by == MT_OPENED_BY_FORK ? MT_OWNER_FORK : MT_OWNER_EXEC};
#pragma clang loop unroll(full)
    for (mt_u32 member = 0; member < MT_MEMBERS; member++) {
        mt_s64 pages = mt_read_counter(account, mm, member, 1);
        account->end[member] = 0;
        account->own[member] = 0;
        account->start[member] = 0;
        if (opened_by == MT_OPENED_BY_ATTACH) {
            account->start[member] = pages;
            if (member != MT_SWAP)
                account->rss += pages;
        } else if (pages) {
            mt_charge_pages(account, &key, member, pages);
        }
    }
    account->peak_rss = account->rss;
    account->state = MT_ACCOUNT_OPEN;
    bpf_map_update_elem(&accounts_by_mm, &mm, &id, BPF_ANY);
    return id;
}

/* Closes the account: nothing is charged to it from now on. `pending` is a change that the kernel has counted and
 * that belongs to the teardown, in `pending_member`. */
__noinline int mt_close_account(mt_u32 id, mt_u32 closed_by, mt_u32 pending_member, mt_s64 pending)
{
    struct mt_account *account = mt_find_account(id);
    if (!account)
        return 0;
    if (mt_owners)
        mt_send_runs(id);
    mt_u64 mm = account->mm;
#pragma clang loop unroll(full)
    for (mt_u32 member = 0; member < MT_MEMBERS; member++) {
        mt_s64 pages = mt_read_counter(account, mm, member, 0);
        /* Who exits or execs has added its own to the counter. */
        mt_s64 own = closed_by == MT_CLOSED_BY_DETACH ? account->own[member] : 0;
        account->end[member] = pages + own - (member == pending_member ? pending : 0);
    }
    account->closed_ns = bpf_ktime_get_ns();
    account->closed_by = closed_by;
    account->state = MT_ACCOUNT_CLOSED;
    bpf_map_delete_elem(&accounts_by_mm, &mm);
    if (account->mm_id) {
        mt_u32 mm_id = account->mm_id;
        bpf_map_delete_elem(&accounts_by_mm_id, &mm_id);
    }
    return 0;
}

#endif
