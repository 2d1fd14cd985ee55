// SPDX-License-Identifier: Apache-2.0
// The piece of memory that memtrace and the child that reads for it (process/reading_child.h) have in common.
#pragma once

#include <linux/futex.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

#include <atomic>
#include <climits>
#include <cstddef>
#include <cstdint>
#include <ctime>

#include "process/credentials.h"
#include "process/reading_child.h"

namespace memtrace {

// A number that one side raises and the other waits for.
struct Bell {
    std::atomic<uint32_t> number;
    std::atomic<uint32_t> sleeps;  // whether the other side does

    void ring(uint32_t next) {
        number.store(next);
        if (sleeps.load())
            syscall(SYS_futex, &number, FUTEX_WAKE, 1, nullptr, nullptr, 0);
    }

    // Returns when the number is another, or for no reason, or after this time. Most answers take a few microseconds,
    // and to sleep and be woken takes ten times as long: so it looks for a while before.
    void wait(uint32_t old, const timespec &longest) {
        for (int i = 0; i < kLooks; i++) {
            if (number.load() != old)
                return;
#if defined(__x86_64__)
            __builtin_ia32_pause();
#else
            asm volatile("yield");
#endif
        }
        sleeps.store(1);
        if (number.load() == old)
            syscall(SYS_futex, &number, FUTEX_WAIT, old, &longest, nullptr, 0);
        sleeps.store(0);
    }

    // Some forty microseconds; of no use where there is one processor.
    inline static const int kLooks = sysconf(_SC_NPROCESSORS_ONLN) > 1 ? 2000 : 0;
};

enum class Reading { kMemory, kResident, kCopy, kPageTables, kScan, kProcFile, kFile, kHasFile };

// What both see. The child believes what it finds here, and we believe nothing but lengths, which we compare with what
// was asked for: the child reads foreign bytes, and interprets none.
struct ReadingExchange {
    Bell asked;     // grows by one with each request
    Bell answered;  // follows it
    pid_t parent;
    Reading operation;
    int pid;
    uint32_t count;   // of addresses, or 1
    size_t size;      // of the bytes at each
    uint64_t offset;  // in the file
    uint64_t tables;  // PageTables::number
    uint64_t end;     // of what is scanned, whose beginning is addresses[0], and its end afterwards
    Credentials who;
    ssize_t result;
    int error;
    char root[64];
    char file[PATH_MAX];
    uint64_t addresses[ReadingChild::kMaxAddresses];
    uint64_t words[ReadingChild::kMostCopied / 4096];  // of pages that were copied: 0 where one was not
    alignas(8) uint8_t bytes[ReadingChild::kMostCopied];
};

// The child's part: answers one request after the other, and ends when the parent has.
[[noreturn]] void serve_reads(ReadingExchange &exchange);

}  // namespace memtrace
