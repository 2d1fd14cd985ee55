/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* The running thread's task_struct, and its registers.
 *
 * The object for kernels before 5.12 (MT_BEFORE_5_12, bpf/CMakeLists.txt) has no pointer that may be followed: the helper
 * that gives one is Linux 5.11's. There each field is read by a helper of 30 ns; elsewhere it is a load. */
#ifndef MEMTRACE_BPF_TASK_H
#define MEMTRACE_BPF_TASK_H

#ifdef MT_BEFORE_5_12
/* The helper that reads this switches faults off meanwhile (copy_from_kernel_nofault, mm/maccess.c). */
#define MT_FAULTS_OFF_TO_READ 1
#define mt_of_task(task, field) BPF_CORE_READ(task, field)
static __always_inline struct task_struct *mt_current_task(void)
{
    return (struct task_struct *)bpf_get_current_task();
}
#else
#define MT_FAULTS_OFF_TO_READ 0
#define mt_of_task(task, field) ((task)->field)
static __always_inline struct task_struct *mt_current_task(void)
{
    return bpf_get_current_task_btf();
}
#endif

/* The registers with which the running thread has entered the kernel; null before Linux 5.15. */
static __always_inline struct pt_regs *mt_user_registers(void)
{
    if (!bpf_core_enum_value_exists(enum bpf_func_id, BPF_FUNC_task_pt_regs))
        return 0;
    return (struct pt_regs *)bpf_task_pt_regs(mt_current_task());
}

#endif
