// SPDX-License-Identifier: Apache-2.0
#include "image.h"

#include <fmt/core.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <span>

#include "symbolize/code_table.h"
#include "walker.h"

namespace memtrace {

namespace {

using nlohmann::json;

constexpr uint32_t kAccount = 1;  // walker.c

std::string to_hex(const std::vector<uint8_t> &bytes) {
    std::string text;
    for (uint8_t byte : bytes)
        text += fmt::format("{:02x}", byte);
    return text;
}

std::vector<uint8_t> from_hex(const std::string &text) {
    std::vector<uint8_t> bytes;
    for (size_t i = 0; i + 1 < text.size(); i += 2)
        bytes.push_back(static_cast<uint8_t>(std::stoi(text.substr(i, 2), nullptr, 16)));
    return bytes;
}

constexpr uint64_t kPage = 4096;

// A page is there when anything of it was recorded, as the kernel has whole pages; what was not is 0.
bool read_pieces(const std::map<uint64_t, std::vector<uint8_t>> &pieces, uint64_t address, void *into, size_t size) {
    uint64_t end = address + size;
    for (uint64_t page = address / kPage * kPage; page < end; page += kPage) {
        auto after = pieces.lower_bound(page + kPage);
        if (after == pieces.begin() || std::prev(after)->first + std::prev(after)->second.size() <= page)
            return false;
    }
    std::fill_n(static_cast<uint8_t *>(into), size, uint8_t{0});
    for (const auto &[start, bytes] : pieces) {
        uint64_t from = std::max(start, address), to = std::min(start + bytes.size(), end);
        if (from < to)
            std::copy_n(bytes.begin() + static_cast<ptrdiff_t>(from - start), to - from,
                        static_cast<uint8_t *>(into) + (from - address));
    }
    return true;
}

struct Walk {
    const RemoteMemory &memory;
    const mt_python &python;
    CodeTable codes;
};

int read_memory(void *walk, void *into, mt_u32 size, mt_u64 address) {
    return static_cast<Walk *>(walk)->memory.read(address, into, size) ? 0 : -1;
}

void take_record(void *context, const void *data, mt_u64 size) {
    Walk &walk = *static_cast<Walk *>(context);
    std::span bytes(static_cast<const uint8_t *>(data), size);
    mt_record record;
    std::memcpy(&record, data, sizeof(record));
    if (record.kind == MT_RECORD_CODE)
        walk.codes.add_code(bytes, walk.python, walk.memory);
    else
        walk.codes.add_stack(bytes);
}

}  // namespace

Walked walk_thread(const mt_python &python, uint64_t self, const RemoteMemory &memory) {
    Walk walk{memory, python, {}};
    walker_target target{&walk, read_memory, take_record};
    walker_result result = walker_find_stack(&python, self, &target);
    Walked walked{static_cast<mt_owner>(result.owner), {}};
    const auto *frames = result.owner == MT_OWNER_STACK ? walk.codes.resolve(kAccount, result.stack) : nullptr;
    if (frames)
        for (const Location &frame : *frames)
            walked.stack.push_back(
                fmt::format("{}:{} {}", frame.code->file, frame.line.value_or(0), frame.code->function));
    return walked;
}

bool RecordingMemory::read(uint64_t address, void *into, size_t size) const {
    if (!memory_.read(address, into, size))
        return false;
    if (size == 0)
        return true;
    // One piece of this and all that it touches. Where they overlap, what was read first stays.
    auto *bytes = static_cast<const uint8_t *>(into);
    uint64_t start = address;
    std::vector<uint8_t> merged(bytes, bytes + size);
    auto it = pieces_.upper_bound(address);
    if (it != pieces_.begin() && std::prev(it)->first + std::prev(it)->second.size() >= address)
        --it;
    while (it != pieces_.end() && it->first <= start + merged.size()) {
        const auto &[at, piece] = *it;
        if (at < start) {
            merged.insert(merged.begin(), piece.begin(), piece.begin() + static_cast<ptrdiff_t>(start - at));
            start = at;
        }
        merged.resize(std::max<size_t>(merged.size(), at - start + piece.size()));
        std::copy(piece.begin(), piece.end(), merged.begin() + static_cast<ptrdiff_t>(at - start));
        it = pieces_.erase(it);
    }
    pieces_[start] = std::move(merged);
    return true;
}

bool ThreadImage::read(uint64_t address, void *into, size_t size) const {
    return read_pieces(pieces, address, into, size);
}

std::string ThreadImage::to_json() const {
    json memory = json::object();
    for (const auto &[address, bytes] : pieces)
        memory[fmt::format("{:016x}", address)] = to_hex(bytes);
    return json{{"interpreter", interpreter},
                {"version", {version.major, version.minor}},
                {"free_threaded", free_threaded},
                {"runtime", runtime},
                {"code_type", code_type},
                {"pthread_self", self},
                {"stack", stack},
                {"memory", memory}}
               .dump(1) +
           "\n";
}

ThreadImage ThreadImage::from_file(const std::string &path) {
    json file = json::parse(std::ifstream(path));
    ThreadImage image;
    image.interpreter = file.at("interpreter");
    image.version = {file.at("version").at(0), file.at("version").at(1), 0};
    image.free_threaded = file.at("free_threaded");
    image.runtime = file.at("runtime");
    image.code_type = file.at("code_type");
    image.self = file.at("pthread_self");
    image.stack = file.at("stack");
    for (const auto &[address, bytes] : file.at("memory").items())
        image.pieces[std::stoull(address, nullptr, 16)] = from_hex(bytes);
    return image;
}

}  // namespace memtrace
