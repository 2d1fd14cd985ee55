// SPDX-License-Identifier: Apache-2.0
// One thread of a process, as much of it as the frame walker reads: from the live process, or recorded in a file.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "memtrace/wire.h"
#include "process/python_layouts.h"
#include "process/remote_memory.h"

namespace memtrace {

// "file:line function" of each frame, innermost first.
using WalkedStack = std::vector<std::string>;

// What the walker (walker.h) and the decoders make of the thread whose pthread_self() is `self`.
struct Walked {
    mt_owner owner = MT_OWNER_LINE_UNKNOWN;
    WalkedStack stack;  // empty unless owner is MT_OWNER_STACK
};
Walked walk_thread(const mt_python &python, uint64_t self, const RemoteMemory &memory);

// Passes reads on, and remembers what they found.
class RecordingMemory : public RemoteMemory {
  public:
    explicit RecordingMemory(const RemoteMemory &memory) : memory_(memory) {}
    bool read(uint64_t address, void *into, size_t size) const override;
    // Pieces that do not touch, by address.
    const std::map<uint64_t, std::vector<uint8_t>> &pieces() const {
        return pieces_;
    }

  private:
    const RemoteMemory &memory_;
    mutable std::map<uint64_t, std::vector<uint8_t>> pieces_;
};

struct ThreadImage : RemoteMemory {
    std::string interpreter;  // for people
    PythonVersion version;
    bool free_threaded = false;
    uint64_t runtime = 0;  // mt_python.runtime and .code_type
    uint64_t code_type = 0;
    uint64_t self = 0;
    WalkedStack stack;
    std::map<uint64_t, std::vector<uint8_t>> pieces;

    bool read(uint64_t address, void *into, size_t size) const override;
    std::string to_json() const;
    // Throws what nlohmann::json throws when the file is not one.
    static ThreadImage from_file(const std::string &path);
};

}  // namespace memtrace
