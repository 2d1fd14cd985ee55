// SPDX-License-Identifier: Apache-2.0
#include "process/remote_memory.h"

#include <sys/uio.h>

namespace memtrace {

bool ProcessMemory::read(uint64_t address, void *into, size_t size) const {
    iovec local{into, size};
    iovec remote{reinterpret_cast<void *>(address), size};
    return process_vm_readv(pid_, &local, 1, &remote, 1, 0) == static_cast<ssize_t>(size);
}

}  // namespace memtrace
