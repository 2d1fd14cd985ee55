// SPDX-License-Identifier: Apache-2.0
#include "process/remote_memory.h"

#include <sys/uio.h>

namespace memtrace {

bool ProcessMemory::read(uint64_t address, void *into, size_t size) const {
    iovec local{into, size};
    iovec remote{reinterpret_cast<void *>(address), size};
    return process_vm_readv(pid_, &local, 1, &remote, 1, 0) == static_cast<ssize_t>(size);
}

size_t ProcessMemory::read_each(std::span<const uint64_t> addresses, void *into, size_t size) const {
    iovec local{into, size * addresses.size()};
    std::vector<iovec> remote;
    for (uint64_t address : addresses)
        remote.push_back({reinterpret_cast<void *>(address), size});
    ssize_t bytes = process_vm_readv(pid_, &local, 1, remote.data(), remote.size(), 0);
    return bytes > 0 ? static_cast<size_t>(bytes) / size : 0;
}

}  // namespace memtrace
