// SPDX-License-Identifier: Apache-2.0
// What pthread_self() points to: the C library's struct of a thread, which glibc calls its descriptor. CPython knows a
// thread by that address, and the kernel by its thread pointer. On x86-64 the two are one; on aarch64 the descriptor
// ends where the thread pointer points, and its size is another in each C library:
//
//     x86-64      | descriptor ...             aarch64   | descriptor ... | thread-local variables
//                 ^ both                                 ^ pthread_self() ^ thread pointer
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <string>

#include "memtrace/wire.h"
#include "process/elf_image.h"

namespace memtrace {

struct ThreadDescriptor {
    uint32_t pointer_at = 0;             // mt_python.pthread_pointer
    uint32_t specific_at = MT_NO_FIELD;  // mt_python.pthread_specific
    uint32_t tid_at = MT_NO_FIELD;       // mt_python.pthread_tid
};

// What read_thread_descriptor wants of an image.
const std::set<std::string> &thread_descriptor_symbols();

// Null when the image is of no C library, or of one that does not tell.
std::optional<ThreadDescriptor> read_thread_descriptor(const ElfImage &image);

// Of the C library that a program with this dynamic loader will get. Null when that cannot be told.
std::optional<ThreadDescriptor> read_thread_descriptor_of_loader(const std::string &loader);

}  // namespace memtrace
