// SPDX-License-Identifier: Apache-2.0
// What functions of a few instructions give away: variables and sizes that have no symbol. Null where a compiler has
// written one otherwise.
#pragma once

#include <cstdint>
#include <optional>

#include "process/elf_image.h"

namespace memtrace {

// The address of the variable whose value the function at this address returns.
std::optional<uint64_t> read_returned_variable(const ElfImage &image, uint64_t function);

// On aarch64: how far below the thread pointer the address lies that the function returns.
std::optional<uint32_t> read_distance_to_thread_pointer(const ElfImage &image, uint64_t function);

}  // namespace memtrace
