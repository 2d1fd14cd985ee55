/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Everything that differs between x86-64 and aarch64, and nothing else. */
#ifndef MEMTRACE_BPF_ARCH_H
#define MEMTRACE_BPF_ARCH_H

#if defined(__TARGET_ARCH_x86)

#define MT_THREAD_POINTER_MAY_BE_OLD 0
static __always_inline mt_u64 mt_thread_pointer(struct task_struct *task)
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

/* Of a system call's tracepoint, whose registers may be read without a helper. */
#define mt_call_number(regs) ((regs)->orig_ax)
#define mt_call_argument(regs, index) ((index) == 0 ? (regs)->di : (index) == 1 ? (regs)->si : (regs)->dx)

/* Whether the thread is in a system call whose number means another here: TS_COMPAT (asm/thread_info.h). */
static __always_inline int mt_is_32_bit_call(struct task_struct *task)
{
    return (mt_of_task(task, thread_info.status) & 2) != 0;
}

/* Where the function that has made this system call returns to, if it is a leaf as libc's mmap and munmap are. */
static __always_inline mt_u64 mt_return_address(struct pt_regs *regs)
{
    mt_u64 address = 0;
    bpf_probe_read_user(&address, sizeof(address), (void *)mt_user_stack_pointer(regs));
    return address;
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

#elif defined(__TARGET_ARCH_arm64)

/* A program writes it without the kernel, which saves it when the thread is switched out (tls_thread_switch,
 * arch/arm64/kernel/process.c). Of a thread that has executed a program and was not switched out since, it is that of the
 * program before; where nobody else wants the processor, for all of a short program's life. Other threads begin with
 * theirs, and so does a forked child. */
#define MT_THREAD_POINTER_MAY_BE_OLD 1
static __always_inline mt_u64 mt_thread_pointer(struct task_struct *task)
{
    return mt_of_task(task, thread.uw.tp_value);
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

#define mt_call_number(regs) ((regs)->syscallno)
#define mt_call_argument(regs, index) ((regs)->regs[index])

/* TIF_32BIT (asm/thread_info.h) */
static __always_inline int mt_is_32_bit_call(struct task_struct *task)
{
    return mt_of_task(task, thread_info.flags) >> 22 & 1;
}

/* The link register has it. Where the function signs it (PAC), the signature is above an address's 48 bits. */
static __always_inline mt_u64 mt_return_address(struct pt_regs *regs)
{
    return BPF_CORE_READ((struct user_pt_regs *)regs, regs[30]) & ((1ull << 48) - 1);
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

#else
#error "memtrace knows x86 and arm64: add the architecture here"
#endif

/* Room for either; a power of two. */
#define MT_PROBE_REGISTERS 32

#endif
