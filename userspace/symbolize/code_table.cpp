// SPDX-License-Identifier: Apache-2.0
#include "symbolize/code_table.h"

#include <spdlog/spdlog.h>

#include <cstring>

#include "base/memory_budget.h"
#include "symbolize/python_text.h"

namespace memtrace {

namespace {

constexpr size_t kCodeHeader = sizeof(mt_code_header);
constexpr size_t kStackHeader = offsetof(mt_stack_record, frames);
constexpr uint64_t kMaxTextBytes = 4096 * 4;  // PATH_MAX characters of the widest kind
constexpr uint64_t kMaxLinetable = 4 << 20;   // a table of 4 MiB is a function of a million instructions
constexpr size_t kMaxCodes = 1 << 18;         // of all processes
constexpr size_t kMaxLinesBytes = 64 << 20;   // of all code objects: 8 million places where the line changes

// What could not be sent is read a little later. Its object may have gone by then, and another one may lie there: what
// has another length is not it.

// A str of the process, where it is compact or bytes (PyASCIIObject.state: bit 5 compact, bit 6 ascii, bits 2-4 kind).
std::optional<std::string> read_string(const mt_text &text, const mt_python &layout, const RemoteMemory &memory) {
    uint64_t address = text.address;
    auto length = memory.read_value<uint64_t>(address + layout.string_length);
    bool is_bytes = layout.string_state == MT_NO_FIELD;
    auto state = is_bytes ? std::optional<uint32_t>(0x60) : memory.read_value<uint32_t>(address + layout.string_state);
    if (!address || !length || !state || !(*state & 0x20) || (text.length && *length != text.length))
        return std::nullopt;
    unsigned kind = is_bytes ? 0 : *state >> 2 & 7, width = is_bytes ? 1 : kind;
    if (*length > kMaxTextBytes || *length * width > kMaxTextBytes)
        return std::nullopt;
    std::vector<uint8_t> bytes(*length * width);
    uint64_t data = address + (*state & 0x40 ? layout.string_ascii_data : layout.string_compact_data);
    if (!memory.read(data, bytes.data(), bytes.size()))
        return std::nullopt;
    return decode_python_text(bytes, kind);
}

std::optional<std::vector<uint8_t>> read_bytes(const mt_text &text, const mt_python &layout,
                                               const RemoteMemory &memory) {
    uint64_t address = text.address;
    auto size = memory.read_value<uint64_t>(address + layout.bytes_size);
    if (!address || !size || *size > kMaxLinetable || (text.length && *size != text.length))
        return std::nullopt;
    std::vector<uint8_t> bytes(*size);
    if (!memory.read(address + layout.bytes_data, bytes.data(), bytes.size()))
        return std::nullopt;
    return bytes;
}

// co_name: "f" of "Class.method.<locals>.f".
std::string bare_name(const CodeObject &code) {
    // "<locals>" and "<lambda>" hold no dot.
    return code.function.substr(code.function.rfind('.') + 1);
}

}  // namespace

bool CodeTable::add_code(std::span<const uint8_t> bytes, const mt_python &layout, const RemoteMemory &memory) {
    if (bytes.size() < kCodeHeader)
        return false;
    mt_code_header record;
    std::memcpy(&record, bytes.data(), kCodeHeader);
    uint64_t total = uint64_t{record.file.length_bytes} + record.name.length_bytes + record.table.length_bytes;
    if (total > bytes.size() - kCodeHeader)
        return false;
    auto file = bytes.subspan(kCodeHeader, record.file.length_bytes);
    auto name = bytes.subspan(kCodeHeader + file.size(), record.name.length_bytes);
    auto table = bytes.subspan(kCodeHeader + file.size() + name.size(), record.table.length_bytes);

    if (codes_.size() >= kMaxCodes || !MemoryBudget::instance().allows(Detail::kLines)) {
        incomplete_++;  // it is "?" wherever it is met
        return true;
    }
    auto code = std::make_unique<CodeObject>();
    code->file = decode_python_text(file, record.file.char_bytes);
    code->function = decode_python_text(name, record.name.char_bytes);
    code->first_line = record.first_line;
    std::optional<std::vector<uint8_t>> read_table;
    bool complete = true;
    if (record.missing & MT_MISSING_FILE) {
        auto text = read_string(record.file, layout, memory);
        complete &= text.has_value();
        code->file = text.value_or("?");
    }
    if (record.missing & MT_MISSING_NAME) {
        auto text = read_string(record.name, layout, memory);
        complete &= text.has_value();
        code->function = text.value_or("?");
    }
    if (record.missing & MT_MISSING_TABLE) {
        read_table = read_bytes(record.table, layout, memory);
        complete &= read_table.has_value();
        if (read_table)
            table = *read_table;
    }
    if (!(record.missing & MT_MISSING_TABLE) || read_table)
        complete &= add_lines(*code, static_cast<mt_line_format>(layout.line_format), table);
    incomplete_ += !complete;
    auto [entry, is_new] =
        codes_.emplace(CodeKey{record.record.account, record.code, record.linetable}, std::move(code));
    const CodeObject *object = entry->second.get();
    if (is_new)
        by_name_[{record.record.account, object->file, bare_name(*object)}].push_back(object);
    return true;
}

// False where there is no room: what is larger than most programs are together is kept for nobody.
bool CodeTable::add_lines(CodeObject &code, mt_line_format format, std::span<const uint8_t> table) {
    CodeLines lines(format, table, code.first_line);
    if (lines.bytes() > kMaxLinesBytes - lines_bytes_ || !MemoryBudget::instance().allows(Detail::kLines))
        return false;
    lines_bytes_ += lines.bytes();
    code.lines = std::move(lines);
    return true;
}

bool CodeTable::add_stack(std::span<const uint8_t> bytes) {
    if (bytes.size() < kStackHeader)
        return false;
    mt_stack_record record;
    std::memcpy(&record, bytes.data(), kStackHeader);
    size_t frames_bytes = size_t{record.frame_count} * sizeof(mt_frame);
    if (record.frame_count > MT_MAX_FRAMES || frames_bytes > bytes.size() - kStackHeader)
        return false;
    std::vector<mt_frame> frames(record.frame_count);
    if (frames_bytes)
        std::memcpy(frames.data(), bytes.data() + kStackHeader, frames_bytes);
    if (!MemoryBudget::instance().allows(Detail::kStacks))
        return true;
    if (auto innermost = frames_.add(record.record.account, frames))
        stacks_.emplace(StackKey{record.record.account, record.stack}, *innermost);
    return true;
}

const CodeObject *CodeTable::code_object(uint32_t account, uint64_t code, uint64_t linetable) const {
    auto found = codes_.find({account, code, linetable});
    return found == codes_.end() ? nullptr : found->second.get();
}

void CodeTable::forget(uint32_t account) {
    located_.clear();
    by_name_.erase(by_name_.lower_bound({account, "", ""}), by_name_.lower_bound({account + 1, "", ""}));
    auto first = codes_.lower_bound({account, 0, 0}), end = codes_.lower_bound({account + 1, 0, 0});
    for (auto code = first; code != end; ++code)
        lines_bytes_ -= code->second->lines.bytes();
    codes_.erase(first, end);
    stacks_.erase(stacks_.lower_bound({account, 0}), stacks_.lower_bound({account + 1, 0}));
}

Location CodeTable::locate(uint32_t account, const mt_frame &frame) const {
    const CodeObject *code = code_object(account, frame.code, frame.linetable);
    if (!code)
        return {&unknown_, std::nullopt};
    auto line = code->lines.at(frame.instruction);
    // A frame that has reported no line yet may lie where another's was: then the names differ.
    const ProbedLine *probed = lines_.find(frame.line);
    if (probed && probed->file == code->file && probed->function == bare_name(*code)) {
        check_.compared++;
        if (line != probed->line) {
            check_.differing++;
            spdlog::debug("{} in {}: line {} by the probe, {} by the frame's instruction", code->function, code->file,
                          probed->line, line.value_or(0));
        }
        line = probed->line;
    }
    return {code, line};
}

const std::vector<Location> *CodeTable::resolve(uint32_t account, uint64_t stack) const {
    auto found = stacks_.find({account, stack});
    if (found == stacks_.end())
        return nullptr;
    resolved_.clear();
    for (std::optional<FrameTree::Node> node = found->second; node; node = frames_.caller(*node)) {
        auto known = located_.find(*node);
        if (known == located_.end())
            known = located_.emplace(*node, locate(account, frames_.frame(*node))).first;
        resolved_.push_back(known->second);
    }
    return &resolved_;
}

const CodeObject *CodeTable::function_of(uint32_t account, const ProbedLine &line) const {
    auto found = by_name_.find({account, line.file, line.function});
    if (found == by_name_.end())
        return nullptr;
    for (const CodeObject *code : found->second)
        if (code->lines.all().contains(line.line))
            return code;
    return nullptr;
}

}  // namespace memtrace
