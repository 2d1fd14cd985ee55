// SPDX-License-Identifier: Apache-2.0
#include "symbolize/line_table.h"

#include <cstring>

#include "memtrace/wire.h"

namespace memtrace {

bool LineTable::add(std::span<const uint8_t> bytes) {
    if (bytes.size() < sizeof(mt_line_record))
        return false;
    mt_line_record record;
    std::memcpy(&record, bytes.data(), sizeof(record));
    auto text = [](const char *from, size_t room) { return std::string(from, strnlen(from, room)); };
    lines_.insert_or_assign(record.id, ProbedLine{text(record.file, sizeof(record.file)),
                                                  text(record.function, sizeof(record.function)), record.line});
    return true;
}

const ProbedLine *LineTable::find(uint64_t id) const {
    auto found = lines_.find(id);
    return found == lines_.end() ? nullptr : &found->second;
}

}  // namespace memtrace
