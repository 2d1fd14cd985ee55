/* SPDX-License-Identifier: Apache-2.0 */
/* What bpf/lib needs in order to be compiled for this machine in place of the kernel's: the helpers that the frame
 * walker calls, over one account, one thread and one target (walker.c). */
#ifndef MEMTRACE_TESTS_NATIVE_BPF_H
#define MEMTRACE_TESTS_NATIVE_BPF_H

#include <linux/bpf.h>
#include <string.h>

#include "memtrace/wire.h"

#define SEC(name)
#define __uint(name, value) int(*name)[value]
#define __type(name, type) typeof(type) *name
#undef __always_inline
#define __always_inline inline __attribute__((always_inline, unused))
#define __noinline __attribute__((noinline, unused))

/* In place of the kernel's, and of lib/task.h and lib/arch.h. */
struct task_struct {
    mt_u64 thread_pointer;
};

#define MT_THREAD_POINTER_MAY_BE_OLD 0
static inline mt_u64 mt_thread_pointer(struct task_struct *task)
{
    return task->thread_pointer;
}

static void *bpf_map_lookup_elem(void *map, const void *key);
static long bpf_map_update_elem(void *map, const void *key, const void *value, mt_u64 flags);
static long bpf_probe_read_user(void *into, mt_u32 size, const void *address);
static long bpf_ringbuf_output(void *ring, void *data, mt_u64 size, mt_u64 flags);
static mt_u64 bpf_ringbuf_query(void *ring, mt_u64 what);
static struct task_struct *mt_current_task(void);
static mt_u64 bpf_get_current_pid_tgid(void);

#endif
