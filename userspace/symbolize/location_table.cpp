// SPDX-License-Identifier: Apache-2.0
#include "symbolize/location_table.h"

namespace memtrace {

namespace {

struct Entry {
    int64_t end_offset = 0;  // in bytes; the entry covers up to here
    std::optional<int> line;
};

// An entry is one byte with bit 7 set (kind in bits 3-6, length in code units less one in bits 0-2), then bytes
// without bit 7. The kinds:
//   0-9   short form        the line stays                10-12  one line form, line += kind - 10
//   13,14 no columns, long  line += a signed varint       15     no location
class Decoder {
  public:
    Decoder(std::span<const uint8_t> table, int first_line) : table_(table), line_(first_line) {}

    bool next(Entry &entry) {
        if (at_ >= table_.size() || !(table_[at_] & 0x80))
            return false;
        unsigned first = table_[at_++];
        unsigned kind = first >> 3 & 15;
        if (kind == 13 || kind == 14)
            line_ += read_signed_varint();
        else if (kind >= 10 && kind <= 12)
            line_ += static_cast<int>(kind) - 10;
        while (at_ < table_.size() && !(table_[at_] & 0x80))
            at_++;
        offset_ += 2 * ((first & 7) + 1);
        entry.end_offset = offset_;
        entry.line = kind == 15 ? std::nullopt : std::optional<int>(line_);
        return true;
    }

  private:
    // Six bits a byte, lowest first, bit 6 says that more follow; the lowest bit of all is the sign. At most 6 bytes
    // make a 32-bit number; more is a damaged table.
    int read_signed_varint() {
        uint64_t value = 0;
        for (unsigned shift = 0; shift < 36 && at_ < table_.size() && !(table_[at_] & 0x80); shift += 6) {
            uint8_t byte = table_[at_++];
            value |= static_cast<uint64_t>(byte & 63) << shift;
            if (!(byte & 64))
                break;
        }
        int64_t magnitude = static_cast<int64_t>(value >> 1);
        return static_cast<int>(value & 1 ? -magnitude : magnitude);
    }

    std::span<const uint8_t> table_;
    size_t at_ = 0;
    int64_t offset_ = 0;
    int line_;
};

}  // namespace

std::optional<int> line_at(std::span<const uint8_t> table, int first_line, int64_t byte_offset) {
    if (byte_offset < 0)
        return first_line;
    Decoder decoder(table, first_line);
    Entry entry;
    while (decoder.next(entry))
        if (byte_offset < entry.end_offset)
            return entry.line;
    return std::nullopt;
}

std::set<int> lines_of(std::span<const uint8_t> table, int first_line) {
    std::set<int> lines;
    Decoder decoder(table, first_line);
    Entry entry;
    while (decoder.next(entry))
        if (entry.line)
            lines.insert(*entry.line);
    return lines;
}

}  // namespace memtrace
