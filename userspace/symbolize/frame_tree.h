// SPDX-License-Identifier: Apache-2.0
// Stacks that share their outer frames. A program has thousands of stacks, and a recursive one tens of thousands, each
// of up to 512 frames; most differ in a few of the innermost:
//
//      <module>:9 ─ main:4 ┬ load:7
//                          └ walk:3 ─ walk:3 ┬ walk:5
//                                            └ touch:2
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <unordered_set>
#include <vector>

#include "memtrace/wire.h"

namespace memtrace {

// Not thread-safe.
class FrameTree {
  public:
    FrameTree() = default;
    FrameTree(const FrameTree &) = delete;
    FrameTree &operator=(const FrameTree &) = delete;

    using Node = uint32_t;  // a frame, below those that called it

    // A stack of this account, innermost first, at least one frame. Null when there is no room for it: then nothing of
    // it is kept that was not.
    std::optional<Node> add(uint32_t account, std::span<const mt_frame> frames);
    const mt_frame &frame(Node node) const {
        return rows_[node].frame;
    }
    // Null for the outermost.
    std::optional<Node> caller(Node node) const;
    size_t size() const {
        return rows_.size();
    }
    uint64_t left_out() const {
        return left_out_;
    }

  private:
    static constexpr Node kNone = UINT32_MAX;
    struct Row {
        uint32_t account = 0;
        Node caller = kNone;
        mt_frame frame{};

        bool operator==(const Row &other) const;
    };
    struct Hash {
        const std::vector<Row> *rows;
        size_t operator()(Node node) const;
    };
    struct Equal {
        const std::vector<Row> *rows;
        bool operator()(Node a, Node b) const;
    };

    std::vector<Row> rows_;
    // Rows by what is in them.
    std::unordered_set<Node, Hash, Equal> found_{0, Hash{&rows_}, Equal{&rows_}};
    uint64_t left_out_ = 0;
};

}  // namespace memtrace
