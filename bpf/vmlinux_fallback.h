/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* The few kernel types that the BPF programs name, for building on a machine whose kernel has no BTF. Offsets do not
 * matter: each access is relocated by libbpf to the kernel that the programs run on (preserve_access_index). Types and
 * field names are the kernel's own. */
#ifndef MEMTRACE_VMLINUX_FALLBACK_H
#define MEMTRACE_VMLINUX_FALLBACK_H
#define __VMLINUX_H__ /* bpf_tracing.h: registers have the kernel's names */

#include <linux/types.h>

typedef _Bool bool;
typedef __u8 u8;
typedef __u16 u16;
typedef __u32 u32;
typedef __u64 u64;
typedef __s32 s32;
typedef __s64 s64;
typedef int pid_t;

enum bpf_map_type {
    BPF_MAP_TYPE_HASH = 1,
    BPF_MAP_TYPE_ARRAY = 2,
    BPF_MAP_TYPE_PERCPU_ARRAY = 6,
    BPF_MAP_TYPE_LRU_HASH = 9,
    BPF_MAP_TYPE_QUEUE = 22,
    BPF_MAP_TYPE_RINGBUF = 27,
    BPF_MAP_TYPE_TASK_STORAGE = 29,
};
enum { BPF_ANY = 0, BPF_NOEXIST = 1 };
enum { BPF_F_NO_PREALLOC = 1 << 0, BPF_F_MMAPABLE = 1 << 10, BPF_LOCAL_STORAGE_GET_F_CREATE = 1 << 0 };
enum { BPF_RB_NO_WAKEUP = 1, BPF_RB_FORCE_WAKEUP = 2 };
enum { BPF_RB_AVAIL_DATA = 0 };
enum bpf_func_id { BPF_FUNC_task_pt_regs = 175, BPF_FUNC_map_lookup_percpu_elem = 195 };

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

typedef struct {
    int counter;
} atomic_t;
typedef struct {
    long counter;
} atomic_long_t;

struct super_block {
    __u32 s_dev;
};
struct inode {
    unsigned long i_ino;
    struct super_block *i_sb;
};
struct file {
    struct inode *f_inode;
};

struct mm_struct {
    atomic_t mm_users;
    unsigned long brk;
    unsigned long start_code;
    unsigned long start_stack;
    unsigned long arg_start, arg_end, env_end;
    struct file *exe_file;
};

struct thread_struct {
#if defined(__TARGET_ARCH_x86)
    unsigned long fsbase;
#else
    struct {
        unsigned long tp_value;
    } uw;
#endif
};

struct signal_struct {
    atomic_t live;
};

struct thread_info {
    unsigned long flags;
#if defined(__TARGET_ARCH_x86)
    __u32 status;
#endif
};

struct upid {
    int nr;
};

struct pid {
    unsigned int level;
    struct upid numbers[1]; /* a flexible array in the kernel */
};

struct task_struct {
    struct thread_info thread_info;
    unsigned int flags;
    pid_t pid, tgid;
    struct pid *thread_pid;
    struct mm_struct *mm;
    unsigned long min_flt, maj_flt;
    int pagefault_disabled;
    struct signal_struct *signal;
    struct thread_struct thread;
};

struct bpf_array {
    void *pptrs[1]; /* a flexible array in the kernel */
};

struct pt_regs {
#if defined(__TARGET_ARCH_x86)
    unsigned long dx, si, di, orig_ax, ip, sp;
#else
    __u64 regs[31];
    __s32 syscallno;
#endif
};
struct user_pt_regs {
    __u64 regs[31];
    __u64 sp, pc;
};

struct bpf_perf_event_data {
    __u64 addr;
};

struct bpf_iter_meta;
struct bpf_iter__task {
    struct bpf_iter_meta *meta;
    struct task_struct *task;
};

#pragma clang attribute pop

#endif
