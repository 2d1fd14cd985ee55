// SPDX-License-Identifier: Apache-2.0
// Which objects a Python object refers to, and which blocks it alone has: for the types whose layout is known
// (TypeShape), from 3.6 on and in 2.7. Layouts are those of Objects/{list,tuple,dict,set,cell}object.c and of
// Include/internal/pycore_{dict,object}.h.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "process/python_layouts.h"
#include "process/remote_memory.h"
#include "snapshots/python_types.h"

namespace memtrace {

// Memory that is read again and again, in pieces of 16 KiB: keeps the last 64 MiB.
class CachedMemory : public RemoteMemory {
  public:
    explicit CachedMemory(const ResidentMemory &memory) : memory_(memory), lines_(kLines) {}
    bool read(uint64_t address, void *into, size_t size) const override;

  private:
    static constexpr size_t kLines = 4096;
    static constexpr uint64_t kLineBytes = 16384;
    struct Line {
        uint64_t number = UINT64_MAX;
        std::vector<uint8_t> bytes;
        std::vector<bool> present;
    };

    const ResidentMemory &memory_;
    mutable std::vector<Line> lines_;
};

// Calls `visit` with each reference of the object at `address`, as often as it has it (some are no addresses of
// objects), and adds to `blocks` those that are freed with it. False when its type's references are not known, or it
// changed meanwhile; and once more than `left` references were read, which the target may have made endless: then that
// is 0.
bool read_references(const RemoteMemory &memory, const PythonVersion &version, const PythonType &type, uint64_t address,
                     const std::function<void(uint64_t)> &visit, std::vector<uint64_t> &blocks, uint64_t &left);

}  // namespace memtrace
