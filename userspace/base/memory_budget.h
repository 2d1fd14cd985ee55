// SPDX-License-Identifier: Apache-2.0
// How much memory memtrace itself may use (--max-memory). It keeps to it by giving up detail, in this order:
//
//     share of it in use    what is kept no more from then on        what that means
//     60 %                  source lines; looks at the end;          lines without text; no findings;
//                           of a look, objects to find cycles among  no garbage
//     70 %                  lines of processes that have ended       [line unknown] there; no imports, nor counts of
//     72 %                  processes that have ended, the smallest   they are missing, and counted
//                           half of those beyond some
//     75 %                  tables of lines, names of code;          lines are not known, functions are "?";
//                           of a look, blocks and buffers            whose they are is not known
//     85 %                  stacks;                                  [line unknown];
//                           of a look, which blocks are buffers      one that looks like an object counts as one
//     90 %                  of the report, the smallest processes    they are missing, and counted
//                           beyond some
//
// Sums of bytes are the kernel's, and stay whole, but for those processes. What the BPF maps take is not part of it:
// the report has it apart.
#pragma once

#include <chrono>
#include <cstdint>

namespace memtrace {

// What is given up, in order.
enum class Detail { kSources, kCycles, kEnded, kProcesses, kLines, kBlocks, kStacks, kMarks, kReport };

// Not thread-safe. There is one.
class MemoryBudget {
  public:
    static MemoryBudget &instance();

    void set_limit(uint64_t bytes) {
        limit_ = bytes;
    }
    uint64_t limit() const {
        return limit_;
    }
    // Whether there is room for more of it.
    bool has_room(Detail detail);
    // The same, and counts each time that there is not.
    bool allows(Detail detail) {
        bool has = has_room(detail);
        left_out_ += !has;
        return has;
    }
    // The same of each kind of detail since the beginning.
    uint64_t left_out() const {
        return left_out_;
    }

  private:
    double used_share();

    uint64_t limit_ = 256 << 20;
    uint64_t left_out_ = 0;
    double share_ = 0;
    std::chrono::steady_clock::time_point looked_at_{};
};

}  // namespace memtrace
