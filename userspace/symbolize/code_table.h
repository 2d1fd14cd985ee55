// SPDX-License-Identifier: Apache-2.0
// All code objects and stacks that the BPF programs sent, and what they mean: addresses in, lines out.
//
// Not thread-safe. A code object belongs to an account (one address space); the same function in two processes is two
// code objects here and one Location in the report.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <tuple>
#include <unordered_map>
#include <vector>

#include "memtrace/wire.h"
#include "process/remote_memory.h"

namespace memtrace {

struct CodeObject {
    std::string file;      // co_filename; "?" when it could not be read
    std::string function;  // co_qualname
    int first_line = 0;
    std::vector<uint8_t> linetable;
};

struct Location {
    const CodeObject *code = nullptr;  // never null; owned by the CodeTable
    std::optional<int> line;           // null: the table gives none, or it could not be read
};

class CodeTable {
  public:
    // Takes a record from the ring buffer. What the kernel could not copy is read from `memory`, if it can be.
    // Returns false for a record that is malformed.
    bool add_code(std::span<const uint8_t> record, const mt_python &layout, const RemoteMemory &memory);
    bool add_stack(std::span<const uint8_t> record);

    // The stack's frames, innermost first; null when it never arrived. A frame whose code object never arrived is
    // given as one of file "?". Owned by the table. A stack is resolved once: ask when all code objects have arrived.
    const std::vector<Location> *resolve(uint32_t account, uint64_t stack) const;

    // Code objects with a part that could not be read.
    uint64_t incomplete() const {
        return incomplete_;
    }

  private:
    using CodeKey = std::tuple<uint32_t, uint64_t, uint64_t>;  // account, code, linetable
    using StackKey = std::pair<uint32_t, uint64_t>;

    std::map<CodeKey, std::unique_ptr<CodeObject>> codes_;
    std::map<StackKey, std::vector<mt_frame>> stacks_;
    mutable std::map<StackKey, std::vector<Location>> resolved_;
    CodeObject unknown_{"?", "?", 0, {}};
    uint64_t incomplete_ = 0;
};

}  // namespace memtrace
