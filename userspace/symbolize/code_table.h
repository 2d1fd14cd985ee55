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
#include "symbolize/code_lines.h"
#include "symbolize/frame_tree.h"
#include "symbolize/line_table.h"

namespace memtrace {

struct CodeObject {
    std::string file;      // co_filename; "?" when it could not be read
    std::string function;  // co_qualname; co_name before 3.11
    int first_line = 0;
    CodeLines lines;
};

struct Location {
    const CodeObject *code = nullptr;  // never null; owned by the CodeTable
    std::optional<int> line;           // null: the table gives none, or it could not be read
};

// How often the line probe and the frame's own instruction were asked for the line of the same frame.
struct LineCheck {
    uint64_t compared = 0;
    uint64_t differing = 0;
};

class CodeTable {
  public:
    // Takes a record from the ring buffer. What the kernel could not copy is read from `memory`, if it can be.
    // Returns false for a record that is malformed.
    bool add_code(std::span<const uint8_t> record, const mt_python &layout, const RemoteMemory &memory);
    bool add_stack(std::span<const uint8_t> record);
    bool add_line(std::span<const uint8_t> record) {
        return lines_.add(record);
    }

    // What arrived of an account's stacks and code objects goes, but for frames.
    void forget(uint32_t account);

    // The stack's frames, innermost first; null when it never arrived, or there was no room for it. A frame whose code
    // object never arrived is given as one of file "?". A frame's line is the line probe's where it told one. Owned by
    // the table, until the next call. A frame is resolved once: ask when all code objects have arrived.
    const std::vector<Location> *resolve(uint32_t account, uint64_t stack) const;

    // Null when it never arrived. Owned by the table.
    const CodeObject *code_object(uint32_t account, uint64_t code, uint64_t linetable) const;

    // The line that the probe knows by this id, and the function that holds it: null when nothing was ever charged to
    // that function.
    const ProbedLine *probed_line(uint64_t id) const {
        return lines_.find(id);
    }
    const CodeObject *function_of(uint32_t account, const ProbedLine &line) const;
    // Of all stacks resolved so far.
    const LineCheck &line_check() const {
        return check_;
    }

    // Stacks for which there was no room: all that are kept have 524,288 frames that differ, in 64 MiB of ours.
    uint64_t stacks_left_out() const {
        return frames_.left_out();
    }

    // Code objects with a part that could not be read, or with a table of lines for which there was no more room.
    uint64_t incomplete() const {
        return incomplete_;
    }

  private:
    Location locate(uint32_t account, const mt_frame &frame) const;
    bool add_lines(CodeObject &code, mt_line_format format, std::span<const uint8_t> table);

    using CodeKey = std::tuple<uint32_t, uint64_t, uint64_t>;  // account, code, linetable
    using StackKey = std::pair<uint32_t, uint64_t>;

    std::map<CodeKey, std::unique_ptr<CodeObject>> codes_;
    std::map<StackKey, FrameTree::Node> stacks_;  // by their innermost frame
    FrameTree frames_;
    mutable std::unordered_map<FrameTree::Node, Location> located_;
    mutable std::vector<Location> resolved_;
    LineTable lines_;
    mutable LineCheck check_;
    // The code objects of an account by file and bare name.
    std::map<std::tuple<uint32_t, std::string, std::string>, std::vector<const CodeObject *>> by_name_;
    CodeObject unknown_{"?", "?", 0, {}};
    uint64_t incomplete_ = 0;
    size_t lines_bytes_ = 0;  // of all code objects
};

}  // namespace memtrace
