/* SPDX-License-Identifier: Apache-2.0 */
#include "walker.h"

#include "native_bpf.h"

#include "lib/maps.h"
#include "lib/frame.h"
#include "lib/thread_state.h"

/* The line engine's, which knows nothing here. */
static mt_u32 mt_line_of_frame(mt_u64 frame)
{
    return 0 * frame;
}

#include "lib/walk.h"

enum { kThread = 4711 };

static const struct walker_target *target;
static struct mt_account account;
static struct mt_thread thread;
static struct mt_scratch working_room;
static struct task_struct task;
static mt_u64 failure_counts[MT_FAILURES];

static void *bpf_map_lookup_elem(void *map, const void *key)
{
    if (map == &accounts)
        return *(const mt_u32 *)key == mt_slot(account.id) ? &account : 0;
    if (map == &threads)
        return *(const mt_u32 *)key == kThread ? &thread : 0;
    if (map == &scratch)
        return &working_room;
    if (map == &failures)
        return &failure_counts[*(const mt_u32 *)key];
    return 0; /* nothing was published before */
}

static long bpf_map_update_elem(void *map, const void *key, const void *value, mt_u64 flags)
{
    (void)map, (void)key, (void)value, (void)flags;
    return 0;
}

static long bpf_probe_read_user(void *into, mt_u32 size, const void *address)
{
    return target->read(target->context, into, size, (mt_u64)address);
}

static long bpf_ringbuf_output(void *ring, void *data, mt_u64 size, mt_u64 flags)
{
    (void)ring, (void)flags;
    target->record(target->context, data, size);
    return 0;
}

static mt_u64 bpf_ringbuf_query(void *ring, mt_u64 what)
{
    (void)ring, (void)what;
    return 0;
}

static struct task_struct *mt_current_task(void)
{
    return &task;
}

static mt_u64 bpf_get_current_pid_tgid(void)
{
    return kThread;
}

struct walker_result walker_find_stack(const struct mt_python *python, mt_u64 self, const struct walker_target *of)
{
    target = of;
    memset(&thread, 0, sizeof(thread));
    memset(&account, 0, sizeof(account));
    memset(failure_counts, 0, sizeof(failure_counts));
    account.id = 1;
    account.state = MT_ACCOUNT_OPEN;
    account.python = *python;
    task.thread_pointer = self + python->pthread_pointer;
    struct walker_result result = {.owner = mt_find_stack(&account, &thread, kThread), .stack = thread.stack};
    memcpy(result.failures, failure_counts, sizeof(failure_counts));
    return result;
}
