// SPDX-License-Identifier: Apache-2.0
#include "symbolize/frame_tree.h"

namespace memtrace {

namespace {

constexpr size_t kMaxRows = 524288;

}  // namespace

bool FrameTree::Row::operator==(const Row &other) const {
    return account == other.account && caller == other.caller && frame.code == other.frame.code &&
           frame.linetable == other.frame.linetable && frame.instruction == other.frame.instruction &&
           frame.line == other.frame.line;
}

size_t FrameTree::Hash::operator()(Node node) const {
    const Row &row = (*rows)[node];
    uint64_t hash = 0;
    for (uint64_t word : {uint64_t{row.account} << 32 | row.caller, row.frame.code, row.frame.linetable,
                          uint64_t{static_cast<uint32_t>(row.frame.instruction)} << 32 | row.frame.line}) {
        hash = (hash ^ word) * 0x9e3779b97f4a7c15;  // 2^64 / golden ratio
        hash ^= hash >> 29;
    }
    return hash;
}

bool FrameTree::Equal::operator()(Node a, Node b) const {
    return (*rows)[a] == (*rows)[b];
}

std::optional<FrameTree::Node> FrameTree::caller(Node node) const {
    Node caller = rows_[node].caller;
    return caller == kNone ? std::nullopt : std::optional(caller);
}

std::optional<FrameTree::Node> FrameTree::add(uint32_t account, std::span<const mt_frame> frames) {
    // (More are not made than there may be, and so no stack is kept in part that had no room.)
    if (frames.empty() || frames.size() > kMaxRows - rows_.size()) {
        left_out_ += !frames.empty();
        return std::nullopt;
    }
    Node node = kNone;
    for (size_t i = frames.size(); i-- > 0;) {
        rows_.push_back({account, node, frames[i]});
        auto [found, is_new] = found_.insert(static_cast<Node>(rows_.size() - 1));
        if (!is_new)
            rows_.pop_back();
        node = *found;
    }
    return node;
}

}  // namespace memtrace
