/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Everything that differs between x86-64 and aarch64, and nothing else. */
#ifndef MEMTRACE_BPF_ARCH_H
#define MEMTRACE_BPF_ARCH_H

#if defined(__TARGET_ARCH_x86)

/* pthread_self() of the running thread: glibc keeps struct pthread at the thread pointer. */
static __always_inline mt_u64 mt_pthread_self(struct task_struct *task)
{
    return mt_of_task(task, thread.fsbase);
}

static __always_inline mt_u64 mt_user_stack_pointer(struct pt_regs *regs)
{
    return BPF_CORE_READ(regs, sp);
}

static __always_inline mt_u64 mt_user_instruction_pointer(struct pt_regs *regs)
{
    return BPF_CORE_READ(regs, ip);
}

/* Of the system call that the thread is in; -1 in a page fault of the program's own. */
static __always_inline mt_s64 mt_system_call_number(struct pt_regs *regs)
{
    return (mt_s64)BPF_CORE_READ(regs, orig_ax);
}

/* Whether a page fault is a write to a page that is there: X86_PF_PROT and X86_PF_WRITE (asm/trap_pf.h). */
static __always_inline int mt_writes_to_present(mt_u64 error_code)
{
    return (error_code & 3) == 3;
}

/* sizeof(struct pt_regs) */
#define MT_USER_REGISTERS_BYTES (21 * 8)

/* What a uprobe's context has of struct pt_regs, in 8-byte words: all 21. */
#define MT_PROBE_REGISTERS_BYTES (21 * 8)

/* offsetof(struct pthread, specific_1stblock): glibc 2.31 to 2.43. */
#define MT_PTHREAD_SPECIFIC 0x310

#elif defined(__TARGET_ARCH_arm64)

/* struct pthread ends where the thread pointer points. Its size is glibc's: 0x740 in 2.36 (Debian 12). */
static __always_inline mt_u64 mt_pthread_self(struct task_struct *task)
{
    return mt_of_task(task, thread.uw.tp_value) - 0x740;
}

static __always_inline mt_u64 mt_user_stack_pointer(struct pt_regs *regs)
{
    return BPF_CORE_READ((struct user_pt_regs *)regs, sp);
}

static __always_inline mt_u64 mt_user_instruction_pointer(struct pt_regs *regs)
{
    return BPF_CORE_READ((struct user_pt_regs *)regs, pc);
}

static __always_inline mt_s64 mt_system_call_number(struct pt_regs *regs)
{
    return BPF_CORE_READ(regs, syscallno);
}

/* The same, of ESR_EL1: a permission fault, at any level, of a write (asm/esr.h). */
static __always_inline int mt_writes_to_present(mt_u64 error_code)
{
    return (error_code & 0x3c) == 0x0c && error_code & (1 << 6);
}

/* sizeof(struct user_pt_regs): regs[0] to regs[30], sp, pc, pstate. */
#define MT_USER_REGISTERS_BYTES (34 * 8)

/* regs[0] to regs[30], and sp. */
#define MT_PROBE_REGISTERS_BYTES (32 * 8)

#define MT_PTHREAD_SPECIFIC 0x110 /* as above */

#else
#error "memtrace knows x86 and arm64: add the architecture here"
#endif

/* Room for either; a power of two. */
#define MT_PROBE_REGISTERS 32

#endif
