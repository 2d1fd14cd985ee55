/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0 OR BSD-2-Clause */
/* What the BPF programs and userspace say to each other: map keys, map values and ring-buffer records.
 *
 * Read by clang for BPF and by g++, so: C only, fixed-width types, explicit padding, sizes asserted at the end.
 * All sizes of memory are in pages unless the name ends in _bytes; all times are CLOCK_MONOTONIC nanoseconds
 * (bpf_ktime_get_ns). Type names begin with mt_ because vmlinux.h owns the short ones. */
#ifndef MEMTRACE_WIRE_H
#define MEMTRACE_WIRE_H

#ifndef __bpf__ /* clang -target bpf defines it */
#include <stdint.h>
typedef uint8_t mt_u8;
typedef uint16_t mt_u16;
typedef uint32_t mt_u32;
typedef uint64_t mt_u64;
typedef int32_t mt_s32;
typedef int64_t mt_s64;
#else
typedef unsigned char mt_u8;
typedef unsigned short mt_u16;
typedef unsigned int mt_u32;
typedef unsigned long long mt_u64;
typedef int mt_s32;
typedef long long mt_s64;
#endif

#ifdef __cplusplus
#define MT_ASSERT(condition, why) static_assert(condition, why)
#else
#define MT_ASSERT(condition, why) _Static_assert(condition, why)
#endif

/* The kernel's resident-set counters (MM_FILEPAGES.. in linux/mm_types_task.h). Swap is kept by the kernel in the
 * same array, and is not resident. */
enum mt_member {
    MT_FILE = 0,
    MT_ANON = 1,
    MT_SWAP = 2,
    MT_SHMEM = 3,
    MT_MEMBERS = 4,
};

/* Who a change of the resident set is charged to. */
enum mt_owner {
    MT_OWNER_STACK = 0,         /* a Python stack, named by mt_charge_key.stack */
    MT_OWNER_NO_FRAME = 1,      /* the thread was running no Python function; where in native code, stack may name */
    MT_OWNER_LINE_UNKNOWN = 2,  /* there was, or may have been, a Python line; it could not be read */
    MT_OWNER_RECLAIM = 3,       /* the kernel took pages, for whoever needed memory */
    MT_OWNER_FORK = 4,          /* inherited from the parent at fork */
    MT_OWNER_EXEC = 5,          /* made resident by exec itself, before the first instruction */
    MT_OWNER_OTHER_PROCESS = 6, /* another process or a kernel thread changed this address space */
    /* Only of pages that are resident (--owners), and userspace's: */
    MT_OWNER_BEFORE_ATTACH = 7,   /* resident already when memtrace attached */
    MT_OWNER_ADDRESS_UNKNOWN = 8, /* who made this page resident is not known: no fault of its own told the address */
    /* Of changes again: */
    MT_OWNER_TRACER = 9, /* memtrace: its probes are breakpoints, each in a private copy of the file's page */
};

/* The system call that a thread was in. MT_CALL_NONE for page faults and everything else. */
enum mt_call {
    MT_CALL_NONE = 0,
    MT_CALL_BRK = 1,
    MT_CALL_MMAP = 2,
    MT_CALL_MUNMAP = 3,
    MT_CALL_MREMAP = 4,
    MT_CALL_MADVISE = 5,
    MT_CALLS = 6,
};

/* One row of counters a kind of failure. Every one of them reaches the user by name. */
enum mt_failure {
    MT_FAIL_RING_FULL = 0,          /* a stack or code object found no room; its bytes go to [line unknown] */
    MT_FAIL_CHARGES_FULL = 1,       /* a charge found no room: these pages are in "unexplained" */
    MT_FAIL_CALLS_FULL = 2,         /* a system call was not counted */
    MT_FAIL_THREADS_FULL = 3,       /* a thread's state found no room: its calls are not counted */
    MT_FAIL_ACCOUNTS_FULL = 4,      /* a process was not followed */
    MT_FAIL_FRAME_READ = 5,         /* a frame was not readable: these pages are in [line unknown] */
    MT_FAIL_NOT_CODE = 6,           /* a frame's code was no code object: these pages are in [line unknown] */
    MT_FAIL_STACK_TOO_DEEP = 7,     /* outermost frames left out: outer lines are charged too little */
    MT_FAIL_NO_SCRATCH = 8,         /* the kernel gave no per-CPU buffer */
    MT_FAIL_LINES_FULL = 9,         /* a hit of a line or function probe was not counted */
    MT_FAIL_FRAME_REGISTER = 10,    /* a frame was taken from the wrong register; from then on it is read instead */
    MT_FAIL_COLLECTIONS_FULL = 11,  /* a garbage collection was not counted */
    MT_FAIL_NATIVE_FULL = 12,       /* native code that is not named: its pages are in [no python frame] all the same */
    MT_FAIL_OWNERS_FULL = 13,       /* --owners: pages whose owner is not known, or is an older one */
    MT_FAIL_COPIES_FULL = 14,       /* --owners: a page that was copied on write is not counted */
    MT_FAIL_LINE_THREADS_FULL = 15, /* the kernel had no room for what the line engine remembers of a thread */
    MT_FAIL_PREEMPTED = 16,         /* a program had preempted another: these pages are in [line unknown] */
    MT_FAILURES = 17,
};

enum mt_python_state {
    MT_PYTHON_PENDING = 0,     /* userspace has not looked yet */
    MT_PYTHON_NONE = 1,        /* not a Python process, as far as is known */
    MT_PYTHON_UNSUPPORTED = 2, /* Python, but of no known layout: bytes are counted, lines are not known */
    MT_PYTHON_READY = 3,
};

/* What a frame says of its instruction. */
enum mt_instruction_kind {
    MT_COUNTS_ADDRESS = 0, /* its address, after the code object's own; 3.11 and later */
    MT_COUNTS_UNITS = 1,   /* its number, two bytes each; -1: not started; 3.10 */
    MT_COUNTS_BYTES = 2,   /* its offset in bytes; -1: not started; before */
};

/* How a code object maps instructions to lines. */
enum mt_line_format {
    MT_LINES_UNSIGNED = 0,  /* co_lnotab, 2.7: Objects/lnotab_notes.txt */
    MT_LINES_SIGNED = 1,    /* co_lnotab, 3.6 to 3.9 */
    MT_LINES_RANGES = 2,    /* co_linetable, 3.10: PEP 626 */
    MT_LINES_LOCATIONS = 3, /* co_linetable, 3.11 and later: Objects/locations.md */
};

#define MT_NO_FIELD 0xffffffffu /* the offset of what this version does not have */
#define MT_FIRST_OWNED_BY_C 3   /* a frame with this owner or above is no Python function's: 3.12 to 3.15 */

/* How the bytes of one CPython version are laid out, and where this process keeps its runtime. Written by userspace
 * after it verified them, read by the BPF programs. Offsets are bytes from the start of the named struct; their values
 * are in userspace/process/layouts/. */
struct mt_python {
    mt_u32 state; /* enum mt_python_state, stored last */
    mt_u32 arena_bytes;
    mt_u64 runtime;    /* address of _PyRuntime; before 3.7, of the pointer to the newest interpreter */
    mt_u64 code_type;  /* address of PyCode_Type */
    mt_u64 text_start; /* the module that holds the interpreter: a mapping made from within is pymalloc's */
    mt_u64 text_end;
    mt_u32 runtime_interpreters_head;
    mt_u32 runtime_thread_key; /* a pthread_key_t, of the thread state */
    mt_u32 interpreter_next;
    mt_u32 interpreter_threads_head;
    mt_u32 thread_next;
    mt_u32 thread_id;
    mt_u32 thread_frame; /* the innermost frame, or the _PyCFrame that has it */
    mt_u32 cframe_frame;
    mt_u32 frame_code;
    mt_u32 frame_previous;
    mt_u32 frame_instruction;
    mt_u32 frame_owner;
    mt_u32 frame_counts; /* enum mt_instruction_kind */
    mt_u32 object_type;
    mt_u32 code_first_line;
    mt_u32 code_filename;
    mt_u32 code_name; /* the qualified one, where there is one */
    mt_u32 code_lines;
    mt_u32 code_instructions;
    mt_u32 line_format; /* enum mt_line_format */
    mt_u32 string_length;
    mt_u32 string_state; /* MT_NO_FIELD: a str is bytes, in UTF-8 as a rule */
    mt_u32 string_ascii_data;
    mt_u32 string_compact_data;
    mt_u32 bytes_size;
    mt_u32 bytes_data;
    mt_u32 frame_first; /* the bytes of a frame that hold all of its fields above */
    mt_u32 frame_bytes;
    /* Of the process's C library, in the struct that pthread_self() points to: */
    mt_u32 pthread_pointer;  /* where the thread pointer points: its start on x86-64, its end on aarch64 */
    mt_u32 pthread_specific; /* the first 32 keys' values; MT_NO_FIELD: not known */
    mt_u32 pthread_tid;      /* what gettid() is in it; MT_NO_FIELD: not known, or not needed */
    mt_u32 unused;           /* zero, so that rows compare by their bytes */
};

/* A file, as the kernel knows it: super block's device ((major << 20) | minor) and inode number. */
struct mt_file_id {
    mt_u64 device;
    mt_u64 inode;
};

enum mt_account_state {
    MT_ACCOUNT_FREE = 0,
    MT_ACCOUNT_OPEN = 1,
    MT_ACCOUNT_CLOSED = 2,
};

enum mt_opened_by { MT_OPENED_BY_ATTACH = 0, MT_OPENED_BY_EXEC = 1, MT_OPENED_BY_FORK = 2 };
enum mt_closed_by { MT_CLOSED_BY_DETACH = 0, MT_CLOSED_BY_EXIT = 1, MT_CLOSED_BY_EXEC = 2 };

#define MT_SLOTS 1024 /* accounts at once; a power of two */
#define MT_NO_ACCOUNT 0xffffffffu
#define MT_ARGS_BYTES 256

/* What the task iterator is to do; userspace sets it before it reads the iterator. */
enum mt_command {
    MT_COMMAND_NONE = 0,
    MT_COMMAND_OPEN = 1,  /* the account of mt_command_tgid */
    MT_COMMAND_CLOSE = 2, /* all accounts */
    /* Before Linux 6.2 (bpf/lib/own_counts.h): */
    MT_COMMAND_LOOK = 3,            /* at what threads have counted by themselves, before all accounts are closed */
    MT_COMMAND_CLOSE_LOOKED_AT = 4, /* those accounts whose threads have changed nothing since */
};

/* The account of one address space: from attach, exec or fork until detach, exec or exit.
 * An account's id is slot + generation * slots, so that a slot can be used again and a late reader notices. */
struct mt_account {
    mt_u32 id;
    mt_u32 tgid;      /* in the initial PID namespace */
    mt_u32 state;     /* enum mt_account_state */
    mt_u32 opened_by; /* enum mt_opened_by */
    mt_u32 closed_by; /* enum mt_closed_by */
    mt_u32 parent;    /* account id that forked this one; its own id when there is none */
    mt_u64 mm;        /* the kernel's mm_struct, as an opaque key */
    mt_u64 opened_ns;
    mt_u64 closed_ns;
    mt_s64 start[MT_MEMBERS];        /* what the kernel counted at opening: 0 for an account opened by fork or exec */
    mt_s64 end[MT_MEMBERS];          /* what the kernel counted at closing */
    mt_s64 folded[MT_MEMBERS];       /* percpu_counter.count as last seen */
    mt_u64 per_cpu_base[MT_MEMBERS]; /* percpu_counter.counters */
    mt_s64 rss;                      /* running: start + all charges of file, anon and shmem */
    mt_s64 peak_rss;
    mt_u64 sequence;        /* counts the changes charged */
    mt_s64 own[MT_MEMBERS]; /* what its threads had counted by themselves when they were last looked at, to close it */
    mt_u64 own_changes;     /* times that this was changed */
    mt_u64 own_changes_looked_at; /* as it was then */
    mt_s32 calling;               /* threads that are inside one of the calls of enum mt_call */
    mt_u32 native_names;          /* native places published; from MT_NATIVE_NAMES on there are no more */
    struct mt_file_id executable; /* of an account opened by exec */
    struct mt_python python;
    mt_u64 interpreter; /* the newest one, as of the last call or search */
    char comm[16];
    mt_u32 args_length;
    mt_u32 mm_id;          /* the classic tracepoint's name for this mm */
    mt_u32 has_run_python; /* 1: a Python frame was met, or may have been before the account was opened */
    mt_u32 zero;
    char args[MT_ARGS_BYTES]; /* argv as exec laid it out, NUL between */
};

/* The last value seen of one CPU's share of an account's counters: row slot * cpus + cpu. */
struct mt_cpu_share {
    mt_s32 seen[MT_MEMBERS];
};

struct mt_charge_key {
    mt_u64 stack;
    mt_u32 account;
    mt_u8 owner; /* enum mt_owner */
    mt_u8 call;  /* enum mt_call: within which system call */
    mt_u16 zero;
};

struct mt_charge {
    mt_u64 grown[MT_MEMBERS];
    mt_u64 returned[MT_MEMBERS];
    mt_u64 events;
    mt_u64 last_sequence; /* account's sequence at the last change */
    mt_s64 rss_after;     /* account's RSS after the last change */
    mt_s64 rss_peak;      /* highest RSS of the account seen at a change charged here */
};

enum mt_call_kind {
    MT_KIND_BRK_GROW = 0,
    MT_KIND_BRK_SHRINK = 1,
    MT_KIND_MMAP = 2,
    MT_KIND_MUNMAP = 3,
    MT_KIND_MREMAP = 4,
    MT_KIND_MADVISE = 5,
    MT_KIND_ARENA_MMAP = 6,   /* an mmap of the interpreter's own, of an arena's size; also counted as MMAP */
    MT_KIND_ARENA_MUNMAP = 7, /* the same for munmap */
    MT_KINDS = 8,
};

struct mt_call_key {
    mt_u64 stack;
    mt_u32 account;
    mt_u8 owner; /* enum mt_owner */
    mt_u8 kind;  /* enum mt_call_kind */
    mt_u16 zero;
};

/* Successful calls only. */
struct mt_call_sum {
    mt_u64 count;
    mt_s64 length_bytes; /* of address space, as asked for; brk and mremap: the net change */
    mt_s64 rss_pages;    /* how the resident set changed between enter and exit, by this thread */
};

/* What a write that made the kernel copy a page was to, and who wrote: bits of mt_charge_key.call of copies. */
enum mt_write {
    MT_WRITE_DATA = 0,
    MT_WRITE_HEADER = 1, /* a small Python object's: its reference count, or what the garbage collector has there */
    MT_WRITE_IN_COLLECTION = 2, /* while the thread collected garbage, as far as the interpreter has probes for that */
};

/* Of a page fault: what it does with a page that it may not write to. */
enum mt_copy_state {
    MT_COPY_NONE = 0,
    MT_COPY_EXPECTED = 1, /* it writes to a page that is there */
    MT_COPY_COUNTED = 2,  /* the kernel has taken a new page for it */
};

/* What is remembered of a thread between its events. */
struct mt_thread {
    mt_u64 state;         /* PyThreadState; 0 when it has none */
    mt_u64 interpreter;   /* the only interpreter there was when the state was found; 0 when there were several */
    mt_u64 no_state_at;   /* newest PyThreadState of the interpreter when this thread was found to have none */
    mt_u64 chain;         /* hash of the frames (address, code, instruction) at the last event */
    mt_u64 stack;         /* and the stack that they were published as */
    mt_u64 call_argument; /* brk: the program break before the call; else the call's first argument */
    mt_u64 call_size;     /* mmap, mremap, madvise: the second, bytes from there on */
    mt_u64 fault_address; /* with --owners: of the last page fault, */
    mt_u64 fault_count;   /* and how many faults the thread had had then: the same as long as it lasts */
    mt_u64 copy_stack;    /* of a page that this fault has copied */
    mt_s64 call_length;
    mt_u64 call_stack;
    mt_s64 call_rss_pages;
    mt_u64 place_stack;         /* before Linux 6.2: where it was when its own counters were looked at, */
    mt_s32 own[MT_MEMBERS];     /* and what they were */
    mt_u64 collection_start_ns; /* 0: this thread is not collecting garbage */
    mt_s64 collection_rss;      /* the account's, at that moment */
    mt_s32 collection_generation;
    mt_u32 account;
    mt_u8 call; /* enum mt_call */
    mt_u8 call_owner;
    mt_u8 call_is_arena;
    mt_u8 call_maps_code;
    mt_u8 fault_copies; /* enum mt_copy_state */
    mt_u8 copy_owner;
    mt_u8 copy_write;  /* bits of enum mt_write */
    mt_u8 place_owner; /* with place_stack */
    mt_u8 place_call;
    mt_u8 zero[7];
};

/* Garbage collections of one generation, triggered at one place: the innermost frame's, with MT_OWNER_STACK. */
struct mt_collection_key {
    mt_u64 code;
    mt_u64 linetable;
    mt_s32 instruction;
    mt_u32 account;
    mt_s32 generation;
    mt_u32 owner; /* enum mt_owner */
};

#define MT_PAUSE_BUCKETS 32 /* bucket n holds pauses of at most 2^n microseconds, and more than half that */

struct mt_collection_sum {
    mt_u64 count;
    mt_u64 objects; /* collected, as the interpreter says */
    mt_u64 pause_ns;
    mt_u64 longest_pause_ns;
    mt_s64 rss_pages; /* change of the resident set from start to end */
    mt_u32 pauses[MT_PAUSE_BUCKETS];
};

/* An address space's place in `processes`, by tgid. */
struct mt_process {
    mt_u32 account;
    mt_u32 borrowed; /* 1: vfork child that lives in its parent's address space until it execs */
};

/* A line as the interpreter's own probes, python:line and python:function__entry, name it: the addresses of two names
 * that end in NUL, which live as long as the code object's strings do. */
struct mt_line_key {
    mt_u64 file;
    mt_u64 function;
    mt_u32 account;
    mt_s32 line;
};

struct mt_line_row {
    mt_u64 hits;    /* of the line */
    mt_u64 entries; /* into its function, at this line: the first, or where a generator goes on */
    mt_u32 id;      /* counts from 1 through all accounts */
    mt_u32 zero;
};

/* The line engine. What is remembered of a thread: at which line (mt_line_row.id) each of its frames is. A table with
 * one place a slot, where a newer frame displaces an older. */
#define MT_LINE_FRAMES 256 /* a power of two; from Linux 7.0 on a row may have no more than 8 KiB */

struct mt_line_frame {
    mt_u64 frame;
    mt_u32 line;
    mt_u32 zero;
};

struct mt_line_thread {
    mt_u64 hits;
    mt_u32 account;
    mt_u32 zero;
    struct mt_line_frame frames[MT_LINE_FRAMES];
};

/* Where a build's probe keeps the frame. Row 0 is for builds whose probe is in several places, which may differ. */
enum mt_site_state { MT_SITE_LEARNING = 0, MT_SITE_LEARNED = 1, MT_SITE_READ_ALWAYS = 2 };

#define MT_SITES 64

struct mt_line_site {
    mt_u32 state;      /* enum mt_site_state */
    mt_u32 candidates; /* registers, as bits, that held the frame every time; all set at first */
    mt_u32 confirmations;
    mt_u32 frame_register;
    mt_u64 last_frame;
};

/* Ring-buffer records. Every one begins with mt_record. */
enum mt_record_kind {
    MT_RECORD_STACK = 1,
    MT_RECORD_CODE = 2,
    MT_RECORD_LOOK = 3, /* only mt_record: an account was opened by exec, or maps code: look for its interpreter */
    MT_RECORD_LINE = 4,
    MT_RECORD_IMPORT = 5,
    MT_RECORD_NATIVE = 6,
    MT_RECORD_ENDING = 7,
    MT_RECORD_TOUCH = 8, /* this one and those below: with --owners, in a ring buffer of their own */
    MT_RECORD_MOVE = 9,
    MT_RECORD_INHERIT = 10,
};

struct mt_record {
    mt_u32 kind;
    mt_u32 account;
};

#define MT_MAX_FRAMES 512

/* A code object is known by its address and its line table's, because freed ones are used again. */
struct mt_frame {
    mt_u64 code;
    mt_u64 linetable;
    mt_s32 instruction; /* bytes from the code object's first instruction; negative: not started */
    mt_u32 line;        /* mt_line_row.id, of the line probe; 0: none */
};

struct mt_stack_record {
    struct mt_record record;
    mt_u64 stack;
    mt_u32 frame_count;
    mt_u32 truncated;
    struct mt_frame frames[MT_MAX_FRAMES]; /* innermost first; frame_count of them are sent */
};

#define MT_FILE_BYTES 1024
#define MT_NAME_BYTES 512
#define MT_TABLE_BYTES 16384

/* What must be read from the process again because its page was not mapped, or was longer than fits. */
enum mt_code_missing { MT_MISSING_FILE = 1, MT_MISSING_NAME = 2, MT_MISSING_TABLE = 4 };

struct mt_text {
    mt_u64 address;      /* of the str or bytes object */
    mt_u32 length_bytes; /* of what follows in mt_code_record.bytes */
    mt_u32 char_bytes;   /* 1, 2 or 4: PyUnicode kind; 1 with ascii 0 is Latin-1; 0: bytes, of a str that is bytes */
    mt_u64 length;       /* as the object has it, by which it is known again when it is read later; 0: unknown */
};

struct mt_code_header {
    struct mt_record record;
    mt_u64 code;
    mt_u64 linetable;
    mt_s32 first_line;
    mt_u32 missing; /* enum mt_code_missing */
    struct mt_text file;
    struct mt_text name;
    struct mt_text table;
};

struct mt_code_record {
    struct mt_code_header header;
    mt_u8 bytes[MT_FILE_BYTES + MT_NAME_BYTES + MT_TABLE_BYTES]; /* file, name, table, one after the other */
};

struct mt_line_record {
    struct mt_record record;
    mt_u32 id;
    mt_s32 line;
    char file[MT_FILE_BYTES];     /* UTF-8, ends in NUL */
    char function[MT_NAME_BYTES]; /* co_name, the same */
};

/* The process is stopped, at its program's end. */
struct mt_ending_record {
    struct mt_record record;
    mt_u64 ns;
};

#define MT_MODULE_BYTES 256

/* Of a pair of probes, which one fired: the cookie that each is attached with. */
enum mt_probe_end { MT_PROBE_DONE = 0, MT_PROBE_START = 1 };

/* An import that begins or ends; those between belong to what it pulled in. Found in sys.modules, a module causes none.
 */
struct mt_import_record {
    struct mt_record record;
    mt_u32 tid;
    mt_u8 begins;
    mt_u8 found; /* of one that ends: whether there was such a module */
    mt_u16 zero;
    mt_u64 ns;
    mt_s64 rss;                   /* the account's */
    char module[MT_MODULE_BYTES]; /* UTF-8, ends in NUL; cut when longer */
};

/* Native code that changes memory: an instruction, at one depth of a thread's stack. */
struct mt_native_key {
    mt_u64 instruction;
    mt_u64 stack_pointer;
    mt_u32 account;
    mt_u32 zero;
};

enum mt_native_state {
    MT_NATIVE_NEW = 0,     /* userspace has yet to unwind from here */
    MT_NATIVE_KNOWN = 1,   /* the instruction alone says which function it is, as far as is known */
    MT_NATIVE_CHECKED = 2, /* within a library routine: the return address at check_at says for whom */
    MT_NATIVE_HIDDEN = 3,  /* cannot be told: not named */
};

struct mt_native_site {
    mt_u64 pages;    /* changed here, before it was named */
    mt_u32 state;    /* enum mt_native_state */
    mt_u32 check_at; /* bytes from the stack pointer */
};

#define MT_NATIVE_WORTH_BYTES (64u << 10) /* what changes less is not named: to unwind costs milliseconds */
#define MT_NATIVE_NAMES 1024              /* of an account */
#define MT_NATIVE_STACK_BYTES 8192
#define MT_USER_REGISTERS 34 /* room for x86-64's 21 and aarch64's 34, in struct pt_regs' order */

/* What it takes to unwind a thread's native stack. */
struct mt_native_record {
    struct mt_record record;
    struct mt_native_key key;
    mt_u64 stack;       /* its name: mt_charge_key.stack */
    mt_u32 check_at;    /* the name holds the word there; MT_NO_FIELD: none */
    mt_u32 stack_bytes; /* of `bytes`, from the stack pointer on */
    mt_u64 registers[MT_USER_REGISTERS];
    mt_u8 bytes[MT_NATIVE_STACK_BYTES];
};

/* With --owners: pages that became resident, and who touched them. Those that lie next to each other and have one owner
 * come together. Addresses here are page numbers. */
struct mt_touch_record {
    struct mt_record record;
    mt_u64 stack;
    mt_u64 first;
    mt_u32 pages;
    mt_u32 resident; /* of `pages`, when it is fewer: which of them is not known, but for `touched` */
    mt_u32 touched;  /* counts from `first`; MT_NO_FIELD: none is known */
    mt_u8 owner;     /* enum mt_owner */
    mt_u8 anonymous; /* fork copies the page table of anonymous pages, and leaves others to be faulted in again */
    mt_u16 zero;
};

/* A page number fits 45 bits (57-bit addresses): the rest of a word counts pages. */
#define MT_RUN_BITS 19
#define MT_RUN_PAGES ((1u << MT_RUN_BITS) - 1)

/* Pages touched one after the other, that one CPU has yet to send. */
struct mt_owner_run {
    mt_u64 pages; /* the page after the last << MT_RUN_BITS | how many; 0: there are none */
    mt_u64 stack;
    mt_u32 account;
    mt_u8 owner;
    mt_u8 zero[3];
};

/* Addresses, whole pages, that were unmapped or have moved. */
struct mt_move_record {
    struct mt_record record;
    mt_u64 start;
    mt_u64 end;
    mt_u64 to; /* 0: they are no more */
};

/* The account of a forked child has what its parent's had. */
struct mt_inherit_record {
    struct mt_record record;
    mt_u32 parent;
    mt_u32 zero;
};

struct mt_code_key {
    mt_u64 code;
    mt_u64 linetable;
    mt_u32 account;
    mt_u32 zero;
};

MT_ASSERT(sizeof(struct mt_python) == 168, "mt_python is the same on both sides");
MT_ASSERT(sizeof(struct mt_charge_key) == 16, "mt_charge_key has no padding");
MT_ASSERT(sizeof(struct mt_call_key) == 16, "mt_call_key has no padding");
MT_ASSERT(sizeof(struct mt_charge) == 96, "mt_charge is the same on both sides");
MT_ASSERT(sizeof(struct mt_collection_key) == 32, "mt_collection_key has no padding");
MT_ASSERT(sizeof(struct mt_thread) == 168, "mt_thread is the same on both sides");
MT_ASSERT(sizeof(struct mt_line_key) == 24, "mt_line_key has no padding");
MT_ASSERT(sizeof(struct mt_frame) == 24, "mt_frame has no padding");
MT_ASSERT(sizeof(struct mt_code_key) == 24, "mt_code_key has no padding");
MT_ASSERT(sizeof(struct mt_native_key) == 24, "mt_native_key has no padding");
MT_ASSERT(sizeof(struct mt_touch_record) == 40, "mt_touch_record is the same on both sides");
MT_ASSERT(sizeof(struct mt_owner_run) == 24, "mt_owner_run is the same on both sides");
MT_ASSERT(sizeof(struct mt_move_record) == 32, "mt_move_record is the same on both sides");
MT_ASSERT(sizeof(struct mt_account) % 8 == 0, "mt_account rows are 8-byte aligned");

#endif
