/* SPDX-License-Identifier: Apache-2.0 */
/* The frame walker of bpf/lib, compiled for this machine. Not thread-safe: there is one target at a time. */
#ifndef MEMTRACE_TESTS_WALKER_H
#define MEMTRACE_TESTS_WALKER_H

#include "memtrace/wire.h"

#ifdef __cplusplus
extern "C" {
#endif

struct walker_target {
    void *context;
    /* Copies `size` bytes at `address` of the target; -1 when it has none there. */
    int (*read)(void *context, void *into, mt_u32 size, mt_u64 address);
    /* What would go through the ring buffer. */
    void (*record)(void *context, const void *data, mt_u64 size);
};

struct walker_result {
    mt_u32 owner; /* enum mt_owner */
    mt_u64 stack;
    mt_u64 failures[MT_FAILURES];
};

/* Names the stack of the thread whose pthread_self() is `self`, as a first event of it would. */
struct walker_result walker_find_stack(const struct mt_python *python, mt_u64 self, const struct walker_target *target);

#ifdef __cplusplus
}
#endif

#endif
