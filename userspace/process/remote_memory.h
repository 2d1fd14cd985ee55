// SPDX-License-Identifier: Apache-2.0
// Reading another process's memory. Read-only: nothing here can write to it or stop it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace memtrace {

// Whether it may be an address of a process's: of 47 bits on x86-64, or 56 with five levels of page tables; of 48 on
// aarch64, or 52. Nothing is in the first 4 KiB.
constexpr bool may_be_address(uint64_t word) {
    return word >= 4096 && word >> 56 == 0;
}

// The seam between those who interpret memory and where it comes from.
class RemoteMemory {
  public:
    virtual ~RemoteMemory() = default;

    // All `size` bytes at `address`, or false: the process is gone, or that much is not mapped there.
    virtual bool read(uint64_t address, void *into, size_t size) const = 0;

    template <typename T>
    std::optional<T> read_value(uint64_t address) const {
        T value;
        if (!read(address, &value, sizeof(value)))
            return std::nullopt;
        return value;
    }
};

// A live process, by process_vm_readv in a child that can be left behind (process/reading_child.h).
class ProcessMemory : public RemoteMemory {
  public:
    explicit ProcessMemory(int pid) : pid_(pid) {}
    bool read(uint64_t address, void *into, size_t size) const override;
    // `size` bytes at each of these addresses, one after the other, at most 1024 (UIO_MAXIOV). How many could be read,
    // whole: up to the first that is not mapped.
    size_t read_each(std::span<const uint64_t> addresses, void *into, size_t size) const;

  private:
    int pid_;
};

}  // namespace memtrace
