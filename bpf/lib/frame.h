/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* What the fields of a frame mean, in every version. `raw` is what a field holds. */
#ifndef MEMTRACE_BPF_FRAME_H
#define MEMTRACE_BPF_FRAME_H

static __always_inline mt_u64 mt_frame_code(mt_u64 raw)
{
    /* From 3.14 on a tagged reference, pycore_stackref.h: no object's address has these bits. */
    return raw & ~7ull;
}

static __always_inline int mt_is_owned_by_c(const struct mt_python *python, mt_u64 raw)
{
    return python->frame_owner != MT_NO_FIELD && (raw & 0xff) >= MT_FIRST_OWNED_BY_C;
}

/* Bytes from the code object's first instruction; negative when the function has not started. */
static __always_inline mt_s32 mt_frame_instruction(const struct mt_python *python, mt_u64 code, mt_u64 raw)
{
    mt_s64 offset = raw - code - python->code_instructions;
    if (python->frame_counts != MT_COUNTS_ADDRESS)
        offset = (mt_s32)raw * (python->frame_counts == MT_COUNTS_UNITS ? 2 : 1);
    return offset == (mt_s32)offset ? offset : -1;
}

#endif
