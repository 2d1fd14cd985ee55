// SPDX-License-Identifier: Apache-2.0
#include "symbolize/code_lines.h"

#include <algorithm>
#include <limits>
#include <utility>

namespace memtrace {

namespace {

// Offsets and lines of a table of 4 MiB may be larger than 32 bits hold, and are far from what 64 do.
struct Entry {
    int64_t end_offset = 0;  // in bytes; the entry covers up to here
    std::optional<int64_t> line;
};

// co_lnotab: pairs of how far the next line's first instruction is, in bytes, and by how much its line is higher. What
// follows the last pair is of the last line.
class NotesDecoder {
  public:
    NotesDecoder(std::span<const uint8_t> table, int first_line, bool is_signed)
        : table_(table), line_(first_line), is_signed_(is_signed) {}

    bool next(Entry &entry) {
        entry.line = line_;
        for (; at_ + 1 < table_.size(); at_ += 2) {
            uint8_t distance = table_[at_], step = table_[at_ + 1];
            if (distance && !is_past_) {
                offset_ += distance;
                entry.end_offset = offset_;
                is_past_ = true;
                return true;
            }
            line_ += is_signed_ ? static_cast<int8_t>(step) : step;
            entry.line = line_;
            is_past_ = false;
        }
        entry.end_offset = std::numeric_limits<int64_t>::max();
        return !std::exchange(is_over_, true);
    }

  private:
    std::span<const uint8_t> table_;
    size_t at_ = 0;
    int64_t offset_ = 0;
    int64_t line_;
    bool is_signed_;
    bool is_past_ = false;  // the distance of the pair at at_ is in offset_ already
    bool is_over_ = false;
};

// 3.10's co_linetable: pairs of a range's length in bytes and by how much its line is higher; -128: it has no line.
class RangeDecoder {
  public:
    RangeDecoder(std::span<const uint8_t> table, int first_line) : table_(table), line_(first_line) {}

    bool next(Entry &entry) {
        while (at_ + 1 < table_.size()) {
            uint8_t length = table_[at_];
            auto step = static_cast<int8_t>(table_[at_ + 1]);
            at_ += 2;
            if (step != -128)
                line_ += step;
            offset_ += length;
            if (!length)
                continue;
            entry.end_offset = offset_;
            entry.line = step == -128 ? std::nullopt : std::optional<int64_t>(line_);
            return true;
        }
        return false;
    }

  private:
    std::span<const uint8_t> table_;
    size_t at_ = 0;
    int64_t offset_ = 0;
    int64_t line_;
};

// 3.11's and later: an entry is one byte with bit 7 set (kind in bits 3-6, length in code units less one in bits 0-2),
// then bytes without bit 7. The kinds:
//   0-9   short form        the line stays                10-12  one line form, line += kind - 10
//   13,14 no columns, long  line += a signed varint       15     no location
class LocationDecoder {
  public:
    LocationDecoder(std::span<const uint8_t> table, int first_line) : table_(table), line_(first_line) {}

    bool next(Entry &entry) {
        if (at_ >= table_.size() || !(table_[at_] & 0x80))
            return false;
        unsigned first = table_[at_++];
        unsigned kind = first >> 3 & 15;
        if (kind == 13 || kind == 14)
            line_ += read_signed_varint();
        else if (kind >= 10 && kind <= 12)
            line_ += static_cast<int64_t>(kind) - 10;
        while (at_ < table_.size() && !(table_[at_] & 0x80))
            at_++;
        offset_ += 2 * ((first & 7) + 1);
        entry.end_offset = offset_;
        entry.line = kind == 15 ? std::nullopt : std::optional<int64_t>(line_);
        return true;
    }

  private:
    // Six bits a byte, lowest first, bit 6 says that more follow; the lowest bit of all is the sign. At most 6 bytes
    // make a 32-bit number; more is a damaged table.
    int64_t read_signed_varint() {
        uint64_t value = 0;
        for (unsigned shift = 0; shift < 36 && at_ < table_.size() && !(table_[at_] & 0x80); shift += 6) {
            uint8_t byte = table_[at_++];
            value |= static_cast<uint64_t>(byte & 63) << shift;
            if (!(byte & 64))
                break;
        }
        int64_t magnitude = static_cast<int64_t>(value >> 1);
        return value & 1 ? -magnitude : magnitude;
    }

    std::span<const uint8_t> table_;
    size_t at_ = 0;
    int64_t offset_ = 0;
    int64_t line_;
};

template <typename Handler>
void each_entry(mt_line_format format, std::span<const uint8_t> table, int first_line, const Handler &handler) {
    auto decode = [&handler](auto decoder) {
        Entry entry;
        while (decoder.next(entry))
            handler(entry);
    };
    if (format == MT_LINES_LOCATIONS)
        decode(LocationDecoder(table, first_line));
    else if (format == MT_LINES_RANGES)
        decode(RangeDecoder(table, first_line));
    else
        decode(NotesDecoder(table, first_line, format == MT_LINES_SIGNED));
}

// CPython counts from 1, and has 0 for what comes before a module's first line.
int32_t known_line(std::optional<int64_t> line) {
    bool is_line = line && *line >= 0 && *line <= std::numeric_limits<int32_t>::max();
    return is_line ? static_cast<int32_t>(*line) : CodeLines::kNone;
}

}  // namespace

CodeLines::CodeLines(mt_line_format format, std::span<const uint8_t> table, int first_line) : first_line_(first_line) {
    each_entry(format, table, first_line, [this](const Entry &entry) {
        auto end = static_cast<uint32_t>(std::min<int64_t>(entry.end_offset, std::numeric_limits<uint32_t>::max()));
        int32_t line = known_line(entry.line);
        if (!ranges_.empty() && ranges_.back().line == line)
            ranges_.back().end = end;
        else
            ranges_.push_back({end, line});
    });
    ranges_.shrink_to_fit();
}

std::optional<int> CodeLines::at(int64_t byte_offset) const {
    if (byte_offset < 0)
        return first_line_;
    auto range = std::upper_bound(ranges_.begin(), ranges_.end(), byte_offset,
                                  [](int64_t offset, const Range &r) { return offset < r.end; });
    if (range == ranges_.end() || range->line == kNone)
        return std::nullopt;
    return range->line;
}

std::set<int> CodeLines::all() const {
    std::set<int> lines;
    for (const Range &range : ranges_)
        if (range.line != kNone)
            lines.insert(range.line);
    return lines;
}

}  // namespace memtrace
