// SPDX-License-Identifier: Apache-2.0
// Records and memory as the kernel's side would send them, made by hand.
#pragma once

#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "memtrace/wire.h"
#include "process/python_layouts.h"
#include "process/remote_memory.h"

namespace memtrace {

// A process's memory that holds what a test put there.
class FakeMemory : public RemoteMemory {
  public:
    bool read(uint64_t address, void *into, size_t size) const override {
        auto after = bytes_.upper_bound(address);
        if (after == bytes_.begin())
            return false;
        const auto &[start, block] = *std::prev(after);
        if (address - start > block.size() || size > block.size() - (address - start))
            return false;
        if (size)
            std::memcpy(into, block.data() + (address - start), size);
        return true;
    }
    void put(uint64_t address, std::vector<uint8_t> block) {
        bytes_[address] = std::move(block);
    }
    // An ASCII str of CPython 3.11.
    void put_string(uint64_t address, const std::string &text) {
        std::vector<uint8_t> block(48 + text.size());
        uint64_t length = text.size();
        uint32_t state = 1 << 2 | 1 << 5 | 1 << 6;
        std::memcpy(block.data() + 16, &length, 8);
        std::memcpy(block.data() + 32, &state, 4);
        std::memcpy(block.data() + 48, text.data(), text.size());
        put(address, std::move(block));
    }
    void put_bytes(uint64_t address, const std::vector<uint8_t> &bytes) {
        std::vector<uint8_t> block(32 + bytes.size());
        uint64_t length = bytes.size();
        std::memcpy(block.data() + 16, &length, 8);
        std::copy(bytes.begin(), bytes.end(), block.begin() + 32);
        put(address, std::move(block));
    }

  private:
    std::map<uint64_t, std::vector<uint8_t>> bytes_;
};

inline mt_python layout_3_11() {
    for (const PythonLayout &layout : python_layouts())
        if (layout.version == PythonVersion{3, 11, 0})
            return layout.offsets;
    return {};
}

// One instruction a line from first_line + 1 on: entries of kind 11 (line += 1), one code unit each.
inline std::vector<uint8_t> one_line_an_instruction(size_t instructions) {
    std::vector<uint8_t> table;
    for (size_t i = 0; i < instructions; i++) {
        table.push_back(0x80 | 11 << 3);
        table.push_back(0);
        table.push_back(0);
    }
    return table;
}

inline std::vector<uint8_t> code_record(uint32_t account, uint64_t code, const std::string &file,
                                        const std::string &name, int first_line, const std::vector<uint8_t> &table,
                                        uint32_t missing = 0) {
    mt_code_header header{};
    header.record = {MT_RECORD_CODE, account};
    header.code = code;
    header.linetable = code + 1;
    header.first_line = first_line;
    header.missing = missing;
    header.file = {0x1000, missing & MT_MISSING_FILE ? 0 : static_cast<uint32_t>(file.size()), 1, 0};
    header.name = {0x2000, missing & MT_MISSING_NAME ? 0 : static_cast<uint32_t>(name.size()), 1, 0};
    header.table = {0x3000, missing & MT_MISSING_TABLE ? 0 : static_cast<uint32_t>(table.size()), 1, 0};
    auto *start = reinterpret_cast<const uint8_t *>(&header);
    std::vector<uint8_t> record(start, start + sizeof(mt_code_header));
    if (header.file.length_bytes)
        record.insert(record.end(), file.begin(), file.end());
    if (header.name.length_bytes)
        record.insert(record.end(), name.begin(), name.end());
    if (header.table.length_bytes)
        record.insert(record.end(), table.begin(), table.end());
    return record;
}

// Frames innermost first: (code, instruction number).
inline std::vector<uint8_t> stack_record(uint32_t account, uint64_t stack,
                                         const std::vector<std::pair<uint64_t, int>> &frames) {
    mt_stack_record header{};
    header.record = {MT_RECORD_STACK, account};
    header.stack = stack;
    header.frame_count = static_cast<uint32_t>(frames.size());
    auto *start = reinterpret_cast<const uint8_t *>(&header);
    std::vector<uint8_t> record(start, start + offsetof(mt_stack_record, frames));
    for (auto [code, instruction] : frames) {
        mt_frame frame{code, code + 1, static_cast<int32_t>(2 * instruction), 0};
        auto *bytes = reinterpret_cast<const uint8_t *>(&frame);
        record.insert(record.end(), bytes, bytes + sizeof(frame));
    }
    return record;
}

}  // namespace memtrace
