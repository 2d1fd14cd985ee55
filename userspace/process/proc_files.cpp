// SPDX-License-Identifier: Apache-2.0
#include "process/proc_files.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <filesystem>
#include <set>
#include <string_view>

#include "base/file_descriptor.h"
#include "process/reading_child.h"

namespace memtrace {

namespace {

constexpr size_t kMaxLineBytes = 32 << 10;
constexpr size_t kMaxNameBytes = 64 << 20;
constexpr size_t kMaxNamesFound = 1 << 16;

void append_up_to(std::string &line, std::string_view piece, size_t limit) {
    line.append(piece.substr(0, limit - std::min(limit, line.size())));
}

}  // namespace

const std::string &Mapping::path() const {
    static const std::string kNone;
    return name ? *name : kNone;
}

std::string Mapping::map_file(int pid) const {
    return fmt::format("/proc/{}/map_files/{:x}-{:x}", pid, start, end);
}

std::optional<std::string> read_whole_file(const std::string &path, size_t limit) {
    FileDescriptor file(open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!file)
        return std::nullopt;
    std::string text;
    char buffer[16384];
    while (text.size() < limit) {
        ssize_t n = read(file.get(), buffer, std::min(sizeof(buffer), limit - text.size()));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return std::nullopt;
        if (n == 0)
            break;
        text.append(buffer, static_cast<size_t>(n));
    }
    return text;
}

bool for_each_line(int pid, const std::string &name, const std::function<void(std::string_view)> &take) {
    std::string line;  // as far as it has come
    std::vector<char> buffer(256 << 10);
    for (uint64_t offset = 0;;) {
        ssize_t n = ReadingChild::instance().read_proc_file(pid, name, offset, buffer.data(), buffer.size());
        if (n < 0)
            return false;
        if (n == 0)
            break;
        offset += static_cast<uint64_t>(n);
        std::string_view rest(buffer.data(), static_cast<size_t>(n));
        for (size_t end; (end = rest.find('\n')) != std::string_view::npos; rest.remove_prefix(end + 1)) {
            append_up_to(line, rest.substr(0, end), kMaxLineBytes);
            take(line);
            line.clear();
        }
        append_up_to(line, rest, kMaxLineBytes);
    }
    if (!line.empty())
        take(line);
    return true;
}

namespace {

// Takes the word before `end_mark` from the front of `rest`.
std::string_view take_word(std::string_view &rest, char end_mark) {
    size_t at = rest.find(end_mark);
    std::string_view word = rest.substr(0, at);
    rest.remove_prefix(at == std::string_view::npos ? rest.size() : at + 1);
    return word;
}

uint64_t parse_number(std::string_view word, int base) {
    uint64_t value = 0;
    std::from_chars(word.data(), word.data() + word.size(), value, base);
    return value;
}

}  // namespace

std::optional<Mapping> MappingParser::parse(std::string_view line) {
    Mapping mapping;
    mapping.start = parse_number(take_word(line, '-'), 16);
    mapping.end = parse_number(take_word(line, ' '), 16);
    std::string_view rights = take_word(line, ' ');
    if (mapping.end <= mapping.start || rights.size() != mapping.rights.size())
        return std::nullopt;
    std::copy(rights.begin(), rights.end(), mapping.rights.begin());
    mapping.offset = parse_number(take_word(line, ' '), 16);
    uint64_t major = parse_number(take_word(line, ':'), 16);
    mapping.device = major << 20 | parse_number(take_word(line, ' '), 16);
    mapping.inode = parse_number(take_word(line, ' '), 10);
    size_t path_at = line.find_first_not_of(' ');
    if (path_at != std::string_view::npos)
        mapping.name = keep(line.substr(path_at));
    return mapping;
}

std::shared_ptr<const std::string> MappingParser::keep(std::string_view name) {
    auto known = names_.find(name);
    if (known != names_.end())
        return known->second;
    if (name_bytes_ > kMaxNameBytes)
        name = "?";
    auto kept = std::make_shared<const std::string>(name);
    name_bytes_ += name.size();
    // A process may have many names that are only one mapping's: what finds them again is bounded too.
    if (names_.size() < kMaxNamesFound)
        names_.emplace(*kept, kept);
    return kept;
}

std::vector<Mapping> parse_mappings(const std::string &text) {
    std::vector<Mapping> mappings;
    MappingParser parser;
    for (std::string_view rest = text; !rest.empty();)
        if (auto mapping = parser.parse(take_word(rest, '\n')))
            mappings.push_back(std::move(*mapping));
    return mappings;
}

std::optional<std::vector<Mapping>> read_mappings(int pid) {
    std::vector<Mapping> mappings;
    MappingParser parser;
    bool is_read = for_each_line(pid, "maps", [&](std::string_view line) {
        if (mappings.size() == kMaxMappings)
            return;
        if (auto mapping = parser.parse(line))
            mappings.push_back(std::move(*mapping));
    });
    if (!is_read)
        return std::nullopt;
    return mappings;
}

std::vector<Mapping> modules_with_code(const std::vector<Mapping> &mappings) {
    std::set<std::pair<uint64_t, uint64_t>> left;  // device and inode
    for (const Mapping &mapping : mappings)
        if (mapping.inode && mapping.permissions()[2] == 'x')
            left.insert({mapping.device, mapping.inode});
    std::vector<Mapping> modules;
    for (const Mapping &mapping : mappings)
        if (mapping.offset == 0 && left.erase({mapping.device, mapping.inode}))
            modules.push_back(mapping);
    return modules;
}

std::vector<std::string> parse_command_line(std::string_view text) {
    constexpr size_t kMaxWords = 256, kMaxBytes = 16 << 10;
    std::vector<std::string> words;
    std::string_view rest = text.substr(0, kMaxBytes);
    while (!rest.empty() && words.size() < kMaxWords)
        words.emplace_back(take_word(rest, '\0'));
    if (!rest.empty() || text.size() > kMaxBytes)
        words.emplace_back("[more arguments]");
    return words;
}

ProcessIdentity read_identity(int pid) {
    ProcessIdentity identity;
    std::string cmdline(64 << 10, '\0');
    ssize_t length = ReadingChild::instance().read_proc_file(pid, "cmdline", 0, cmdline.data(), cmdline.size());
    cmdline.resize(static_cast<size_t>(std::max<ssize_t>(length, 0)));
    identity.cmdline = parse_command_line(cmdline);
    if (auto text = read_whole_file(fmt::format("/proc/{}/cgroup", pid), 64 << 10)) {
        std::string_view rest = *text;
        while (!rest.empty()) {
            std::string_view line = take_word(rest, '\n');
            std::string_view hierarchy = take_word(line, ':');
            take_word(line, ':');
            if (hierarchy == "0" || !identity.cgroup)
                identity.cgroup = std::string(line);
        }
    }
    return identity;
}

std::string working_folder(int pid) {
    std::error_code error;
    return std::filesystem::read_symlink(fmt::format("/proc/{}/cwd", pid), error).string();
}

bool process_exists(int pid) {
    return kill(pid, 0) == 0 || errno == EPERM;
}

bool has_memory(int pid) {
    auto text = read_whole_file(fmt::format("/proc/{}/statm", pid));
    return text && !text->starts_with("0 ");
}

}  // namespace memtrace
