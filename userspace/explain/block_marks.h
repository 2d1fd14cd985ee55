// SPDX-License-Identifier: Apache-2.0
// What was found out about pymalloc's blocks, by where they lie in the arenas.
//
// The table of arenas and the pools in them are read at different moments, and the process may change both meanwhile: a
// pool may begin in an arena that is known and end behind it, where other arenas begin, or nothing. So whatever lies in
// no arena that was known at the beginning has no marks: none can be set, and none is set.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace memtrace {

class BlockMarks {
  private:
    // By the place in units of 16 bytes, to which all blocks of 64-bit processes are aligned, or of 8 before
    // CPython 3.7, where two blocks of 8 bytes share their marks.
    struct Arena {
        std::vector<bool> is_buffer, is_object;  // empty as long as nothing is marked
    };

  public:
    // The marks from one address to the end of the arena that it lies in.
    class Part {
      public:
        // An object has it for its table or buffer.
        bool is_buffer(uint64_t offset) const;
        // It was counted as an object.
        bool is_object(uint64_t offset) const;
        void set_buffer(uint64_t offset);
        void set_object(uint64_t offset, bool is_object);

      private:
        friend class BlockMarks;
        bool has(uint64_t offset) const {
            return offset < bytes_;
        }
        size_t place(uint64_t offset) const;
        void set(std::vector<bool> &marks, uint64_t offset, bool value);

        Arena *arena_ = nullptr;
        uint64_t start_ = 0;  // in the arena
        uint64_t bytes_ = 0;  // 0: it lies in no arena, or in one too many
    };

    // `arenas`: where they begin, sorted. Each has `arena_bytes`. Of more than 16,384, which are 16 GiB, the marks of
    // the others are not kept: those that are take 16 KiB an arena, 256 MiB together. Nor where memory is short.
    BlockMarks(std::vector<uint64_t> arenas, uint64_t arena_bytes);

    bool is_in_arena(uint64_t address) const;
    // Stays valid as long as this is.
    Part from(uint64_t address);

  private:
    // The index of the arena that the address lies in, or how many there are.
    size_t find(uint64_t address) const;

    std::vector<uint64_t> starts_;
    std::vector<Arena> marks_;  // of the first of them
    uint64_t arena_bytes_;
};

}  // namespace memtrace
