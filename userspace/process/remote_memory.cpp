// SPDX-License-Identifier: Apache-2.0
#include "process/remote_memory.h"

#include "process/reading_child.h"

namespace memtrace {

bool ProcessMemory::read(uint64_t address, void *into, size_t size) const {
    return !size || ReadingChild::instance().read_memory(pid_, {&address, 1}, into, size) == static_cast<ssize_t>(size);
}

size_t ProcessMemory::read_each(std::span<const uint64_t> addresses, void *into, size_t size) const {
    ssize_t bytes = ReadingChild::instance().read_memory(pid_, addresses, into, size);
    return bytes > 0 ? static_cast<size_t>(bytes) / size : 0;
}

}  // namespace memtrace
