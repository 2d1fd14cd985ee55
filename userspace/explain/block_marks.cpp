// SPDX-License-Identifier: Apache-2.0
#include "explain/block_marks.h"

#include <algorithm>
#include <utility>

#include "base/memory_budget.h"

namespace memtrace {

namespace {

constexpr uint64_t kMarkBytes = 16;
constexpr size_t kMaxMarkedArenas = 16384;

}  // namespace

size_t BlockMarks::Part::place(uint64_t offset) const {
    return static_cast<size_t>((start_ + offset) / kMarkBytes);
}

bool BlockMarks::Part::is_buffer(uint64_t offset) const {
    return has(offset) && !arena_->is_buffer.empty() && arena_->is_buffer[place(offset)];
}

bool BlockMarks::Part::is_object(uint64_t offset) const {
    return has(offset) && !arena_->is_object.empty() && arena_->is_object[place(offset)];
}

void BlockMarks::Part::set(std::vector<bool> &marks, uint64_t offset, bool value) {
    if (!has(offset))
        return;
    if (marks.empty() && MemoryBudget::instance().allows(Detail::kMarks))
        marks.resize(place(bytes_ - 1) + 1);
    if (!marks.empty())
        marks[place(offset)] = value;
}

void BlockMarks::Part::set_buffer(uint64_t offset) {
    if (arena_)
        set(arena_->is_buffer, offset, true);
}

void BlockMarks::Part::set_object(uint64_t offset, bool is_object) {
    if (arena_)
        set(arena_->is_object, offset, is_object);
}

BlockMarks::BlockMarks(std::vector<uint64_t> arenas, uint64_t arena_bytes)
    : starts_(std::move(arenas)), marks_(std::min(starts_.size(), kMaxMarkedArenas)), arena_bytes_(arena_bytes) {}

size_t BlockMarks::find(uint64_t address) const {
    auto above = std::upper_bound(starts_.begin(), starts_.end(), address);
    if (above == starts_.begin() || address - *std::prev(above) >= arena_bytes_)
        return starts_.size();
    return static_cast<size_t>(std::prev(above) - starts_.begin());
}

bool BlockMarks::is_in_arena(uint64_t address) const {
    return find(address) < starts_.size();
}

BlockMarks::Part BlockMarks::from(uint64_t address) {
    Part part;
    size_t index = find(address);
    if (index >= marks_.size())
        return part;
    part.arena_ = &marks_[index];
    part.start_ = address - starts_[index];
    part.bytes_ = arena_bytes_ - part.start_;
    return part;
}

}  // namespace memtrace
