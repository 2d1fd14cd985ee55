/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Naming the Python stack that the running thread is at.
 *
 * Three passes, each only when the one before found news:
 *   1. read the chain of frames. Same frames at the same instructions as at this thread's last event: same stack.
 *      The whole chain is compared, not the innermost frame: two calls of one function from two lines look alike there.
 *   2. read each code object's identity and hash it all into the stack's name, 64 bits.
 *   3. send the stack, and every code object in it that was not sent before, through the ring buffer. Code objects are
 *      copied here, in the thread's own context, so that nothing is lost when the process ends a moment later. */
#ifndef MEMTRACE_BPF_WALK_H
#define MEMTRACE_BPF_WALK_H

static __always_inline mt_u64 mt_mix(mt_u64 hash, mt_u64 value)
{
    hash = (hash ^ value) * 0x9e3779b97f4a7c15ull; /* 2^64 / golden ratio */
    return hash ^ (hash >> 29);
}

/* Where a str keeps its characters, from PyASCIIObject.state: kind in bits 2-4, compact in 5, ascii in 6
 * (CPython 3.6 to 3.15, but for free-threaded 3.14 and later). Only compact strings are read: names and paths are. */
static __always_inline int mt_capture_string(const struct mt_python *python, mt_u64 string, struct mt_text *text,
                                             mt_u8 *into, mt_u32 room)
{
    mt_u64 length = 0;
    mt_u32 state = 1 << 2 | 0x20 | 0x40; /* of a str that is bytes */
    int is_bytes = python->string_state == MT_NO_FIELD;
    text->address = string;
    text->length_bytes = 0;
    text->char_bytes = 1;
    text->length = 0;
    if (bpf_probe_read_user(&length, sizeof(length), (void *)(string + python->string_length)) ||
        (!is_bytes && bpf_probe_read_user(&state, sizeof(state), (void *)(string + python->string_state))))
        return -1;
    text->length = length;
    if (!(state & 0x20))
        return -1;
    mt_u32 kind = (state >> 2) & 7;
    if (kind != 1 && kind != 2 && kind != 4)
        return -1;
    mt_u64 data = string + (state & 0x40 ? python->string_ascii_data : python->string_compact_data);
    if (length > 4096)
        return -1;
    mt_u64 bytes = mt_opaque(length * kind);
    text->char_bytes = is_bytes ? 0 : kind;
    if (bytes > room)
        return -1;
    if (bytes && bpf_probe_read_user(into, mt_below(bytes, 2 * room), (void *)data))
        return -1;
    text->length_bytes = bytes;
    return 0;
}

/* Copies a code object into `record`. Returns how many bytes of that are used; 0: it cannot be.
 * A function of its own, so that its bounds stay in registers: Linux 5.10 forgets those of what is spilled. */
static __noinline mt_u64 mt_capture_code(const struct mt_account *account, mt_u64 code, mt_u64 linetable,
                                         struct mt_code_record *record)
{
    const struct mt_python *python = &account->python;
    struct mt_code_header *header = &record->header;
    header->record.kind = MT_RECORD_CODE;
    header->record.account = account->id;
    header->code = code;
    header->linetable = linetable;
    header->missing = 0;
    header->first_line = 0;
    bpf_probe_read_user(&header->first_line, sizeof(header->first_line), (void *)(code + python->code_first_line));

    if (mt_capture_string(python, mt_read_user_u64(code + python->code_filename), &header->file, record->bytes,
                          MT_FILE_BYTES))
        header->missing |= MT_MISSING_FILE;
    mt_u64 at = mt_opaque(header->file.length_bytes);
    if (at > MT_FILE_BYTES)
        return 0;
    if (mt_capture_string(python, mt_read_user_u64(code + python->code_name), &header->name, record->bytes + at,
                          MT_NAME_BYTES))
        header->missing |= MT_MISSING_NAME;
    mt_u64 name_length = mt_opaque(header->name.length_bytes);
    if (name_length > MT_NAME_BYTES)
        return 0;
    at = mt_opaque(at + name_length);
    mt_u64 size = mt_opaque(mt_read_user_u64(linetable + python->bytes_size));
    header->table.address = linetable;
    header->table.char_bytes = 1;
    header->table.length_bytes = 0;
    header->table.length = size;
    if (at > MT_FILE_BYTES + MT_NAME_BYTES)
        return 0;
    if (!size || size > MT_TABLE_BYTES ||
        bpf_probe_read_user(record->bytes + at, size, (void *)(linetable + python->bytes_data)))
        header->missing |= MT_MISSING_TABLE;
    else
        header->table.length_bytes = size;
    return __builtin_offsetof(struct mt_code_record, bytes) + at + header->table.length_bytes;
}

/* What could not be copied must be read before the process ends: wakes the reader then. */
static __always_inline mt_u64 mt_wakeup_for(const struct mt_code_record *record)
{
    return record->header.missing ? BPF_RB_FORCE_WAKEUP : BPF_RB_NO_WAKEUP;
}

/* Sends one code object. Returns 0 when it is on its way. */
__noinline int mt_publish_code(mt_u32 account_id, mt_u64 code, mt_u64 linetable)
{
    struct mt_account *account = mt_find_account(account_id);
    struct mt_scratch *s = mt_get_scratch();
    if (!account || !s)
        return -1;
    mt_u64 total = mt_opaque(mt_capture_code(account, code, linetable, &s->code));
    if (!total || total > sizeof(s->code))
        return -1;
    return bpf_ringbuf_output(&records, &s->code, total, mt_wakeup_for(&s->code));
}

/* Sends the code object of one frame in scratch->walk, unless it was sent before. Returns 0 when it is on its way. */
__noinline int mt_publish_frame(mt_u32 account_id, mt_u32 index)
{
    mt_u64 i = mt_opaque(index);
    struct mt_scratch *s = mt_get_scratch();
    if (!s || i >= MT_MAX_FRAMES)
        return -1;
    struct mt_code_key key = {
        .code = s->walk.frames[i].code, .linetable = s->walk.frames[i].linetable, .account = account_id};
    if (bpf_map_lookup_elem(&published_codes, &key))
        return 0;
    if (mt_publish_code(account_id, key.code, key.linetable))
        return -1;
    mt_u8 one = 1;
    bpf_map_update_elem(&published_codes, &key, &one, BPF_ANY);
    return 0;
}

/* Sends the stack in scratch->walk, innermost first. Returns 0 when it and all its code objects are on their way. */
__noinline int mt_publish_stack(mt_u32 account_id)
{
    struct mt_scratch *s = mt_get_scratch();
    if (!s)
        return -1;
    mt_u32 count = s->walk.frame_count;
    if (count > MT_MAX_FRAMES)
        return -1;
    for (mt_u32 i = 0; i < MT_MAX_FRAMES; i++) {
        if (i >= count)
            break;
        if (mt_publish_frame(account_id, i))
            return -1;
    }
    mt_u64 total = mt_opaque(__builtin_offsetof(struct mt_stack_record, frames) + (mt_u64)count * sizeof(struct mt_frame));
    if (total > sizeof(s->walk))
        return -1;
    mt_u64 waiting = bpf_ringbuf_query(&records, BPF_RB_AVAIL_DATA);
    return bpf_ringbuf_output(&records, &s->walk, total,
                              waiting > (512 << 10) ? BPF_RB_FORCE_WAKEUP : BPF_RB_NO_WAKEUP);
}

/* Reads a window that ends with the `span` bytes at `at`, and begins in the page where they do: the one before may not be
 * there, and a read that fails is a page fault in the kernel (550 to 650 ns measured, where one that succeeds takes 80). */
__noinline int mt_move_window(mt_u64 at, mt_u32 span)
{
    struct mt_scratch *s = mt_get_scratch();
    if (!s || span > MT_WINDOW)
        return -1;
    mt_u64 end = at + span, first = end - MT_WINDOW, page = at >> mt_page_shift << mt_page_shift;
    if (first < page)
        first = page;
    mt_u64 size = mt_opaque(end - first);
    if (size > MT_WINDOW)
        return -1;
    s->window_at = first;
    s->window_size = size;
    return bpf_probe_read_user(s->window, mt_below(size, 2 * MT_WINDOW), (void *)first);
}

/* The most that mt_python.frame_bytes may be; a power of two. */
#define MT_FRAME_FIELDS 128

/* What 8 bytes at `offset` of a frame hold. `bytes` are its bytes from mt_python.frame_first on. */
static __always_inline mt_u64 mt_frame_field(const struct mt_python *python, const mt_u8 *bytes, mt_u32 offset)
{
    return *(const mt_u64 *)(bytes + ((offset - python->frame_first) & (MT_FRAME_FIELDS - 1)));
}

/* Copies the frame at scratch->frame to scratch->walk, adds it to the hash, and goes on to its caller's. Returns 0, or -1
 * when it cannot be read. A frame that is no Python function's, as C code leaves behind from 3.12 on, is passed over.
 *
 * A read of the process costs the same (about 130 ns measured) whether it is of 8 bytes or of 500, and CPython 3.11 and
 * later push frames onto a stack of their own, callers below callees. So a window is read that ends with the frame, and
 * the callers found in it need no read. */
__noinline int mt_walk_frame(mt_u32 account_id)
{
    struct mt_account *account = mt_find_account(account_id);
    struct mt_scratch *s = mt_get_scratch();
    if (!account || !s)
        return -1;
    const struct mt_python *python = &account->python;
    mt_u64 i = mt_opaque(s->walk.frame_count), span = python->frame_bytes;
    if (i >= MT_MAX_FRAMES || span > MT_FRAME_FIELDS)
        return -1;
    mt_u64 frame = s->frame, at = frame + python->frame_first;
    if ((at < s->window_at || at + span > s->window_at + s->window_size) && mt_move_window(at, span)) {
        mt_count_failure(MT_FAIL_FRAME_READ);
        return -1;
    }
    const mt_u8 *bytes = s->window + ((at - s->window_at) & (MT_WINDOW - 1));
    s->frame = mt_frame_field(python, bytes, python->frame_previous);
    if (mt_is_owned_by_c(python, mt_frame_field(python, bytes, python->frame_owner)))
        return 0;
    mt_u64 code = mt_frame_code(mt_frame_field(python, bytes, python->frame_code));
    mt_u64 raw = mt_frame_field(python, bytes, python->frame_instruction);
    s->walk.frames[i].code = code;
    s->walk.frames[i].instruction = mt_frame_instruction(python, code, raw);
    s->walk.frames[i].line = mt_line_of_frame(frame);
    s->walk.frame_count = i + 1;
    /* An address says which code object it is of; a number does not. */
    s->chain = mt_mix(mt_mix(s->chain, frame ^ (code << 1)), raw + ((mt_u64)s->walk.frames[i].line << 48));
    return 0;
}

/* Pass 1: copies the chain that begins at `frame` to scratch->walk, and hashes it into scratch->chain. */
static __always_inline int mt_walk_chain(mt_u32 account_id, struct mt_scratch *s, mt_u64 frame)
{
    s->chain = account_id;
    s->frame = frame;
    s->window_size = 0;
    s->walk.frame_count = 0;
    for (mt_u32 i = 0; i < MT_MAX_FRAMES; i++) {
        if (!s->frame)
            break;
        if (mt_walk_frame(account_id))
            return -1;
    }
    s->walk.truncated = s->frame != 0;
    return 0;
}

/* Adds the identity of one frame's code object to scratch->walk and to the name in scratch->stack. Returns 0, or -1
 * when it is no code object. */
__noinline int mt_name_frame(mt_u32 account_id, mt_u32 index)
{
    mt_u64 i = mt_opaque(index);
    struct mt_account *account = mt_find_account(account_id);
    struct mt_scratch *s = mt_get_scratch();
    if (!account || !s || i >= MT_MAX_FRAMES)
        return -1;
    mt_u64 code = s->walk.frames[i].code;
    if (mt_read_user_u64(code + account->python.object_type) != account->python.code_type) {
        mt_count_failure(MT_FAIL_NOT_CODE);
        return -1;
    }
    mt_u64 linetable = mt_read_user_u64(code + account->python.code_lines);
    s->walk.frames[i].linetable = linetable;
    s->stack = mt_mix(mt_mix(mt_mix(s->stack, code), linetable),
                      s->walk.frames[i].instruction + ((mt_u64)s->walk.frames[i].line << 32));
    return 0;
}

/* Pass 2: completes scratch->walk with the code objects' identities, and names it in scratch->stack. Returns 0, or -1
 * when a frame's code is no code object. */
__noinline int mt_name_stack(mt_u32 account_id)
{
    struct mt_scratch *s = mt_get_scratch();
    if (!s)
        return -1;
    s->stack = 1;
    mt_u32 count = s->walk.frame_count;
    for (mt_u32 i = 0; i < MT_MAX_FRAMES; i++) {
        if (i >= count)
            break;
        if (mt_name_frame(account_id, i))
            return -1;
    }
    if (s->walk.truncated)
        mt_count_failure(MT_FAIL_STACK_TOO_DEEP);
    return 0;
}

/* Passes 2 and 3, for a chain in scratch that is not the thread's last one. */
__noinline int mt_name_new_chain(mt_u32 account_id, mt_u32 tid)
{
    struct mt_thread *thread = bpf_map_lookup_elem(&threads, &tid);
    struct mt_scratch *s = mt_get_scratch();
    if (!thread || !s || mt_name_stack(account_id))
        return MT_OWNER_LINE_UNKNOWN;
    struct mt_published_key key = {.stack = s->stack, .account = account_id};
    if (!bpf_map_lookup_elem(&published_stacks, &key)) {
        s->walk.record.kind = MT_RECORD_STACK;
        s->walk.record.account = account_id;
        s->walk.stack = s->stack;
        if (mt_publish_stack(account_id)) {
            mt_count_failure(MT_FAIL_RING_FULL);
            return MT_OWNER_LINE_UNKNOWN;
        }
        mt_u8 one = 1;
        bpf_map_update_elem(&published_stacks, &key, &one, BPF_ANY);
    }
    thread->chain = s->chain;
    thread->stack = s->stack;
    return MT_OWNER_STACK;
}

/* Names the stack of the running thread, whose row is `thread`. Returns an enum mt_owner; with MT_OWNER_STACK,
 * thread->stack is the name. */
static __always_inline mt_u32 mt_find_stack(struct mt_account *account, struct mt_thread *thread, mt_u32 tid)
{
    mt_u32 python = account->python.state;
    if (python != MT_PYTHON_READY)
        return python == MT_PYTHON_UNSUPPORTED ? MT_OWNER_LINE_UNKNOWN : MT_OWNER_NO_FRAME;
    struct mt_scratch *s = mt_get_scratch();
    if (!s)
        return MT_OWNER_LINE_UNKNOWN;
    mt_u64 self = mt_pthread_self(&account->python);
    mt_u64 frame = mt_find_frame(account, s, thread, tid, self);
    if (!frame)
        return MT_OWNER_NO_FRAME;
    if (mt_walk_chain(account->id, s, frame))
        return MT_OWNER_LINE_UNKNOWN;
    if (!s->walk.frame_count)
        return MT_OWNER_NO_FRAME;
    if (s->chain == thread->chain) /* the account's id is in the hash */
        return MT_OWNER_STACK;
    return mt_name_new_chain(account->id, tid);
}

#endif
