// SPDX-License-Identifier: Apache-2.0
#include "symbolize/source_files.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <climits>
#include <string_view>
#include <utility>

#include "base/memory_budget.h"
#include "base/printable.h"
#include "process/reading_child.h"

namespace memtrace {

namespace {

constexpr size_t kMaxSourceBytes = 16 << 20;
constexpr size_t kMaxAllBytes = 64 << 20;
constexpr size_t kMaxFiles = 10'000;  // of a process, that there are or are not
constexpr size_t kMaxLineBytes = 4 << 10;
constexpr size_t kLinesBetween = 64;

size_t all_bytes = 0;  // that all processes' files take

}  // namespace

SourceText::SourceText(std::string text) : text_(std::move(text)) {
    size_t number = 0;
    for (size_t at = 0; at < text_.size(); number++) {
        if (number % kLinesBetween == 0)
            beginnings_.push_back(static_cast<uint32_t>(at));
        size_t end = text_.find('\n', at);
        at = end == std::string::npos ? text_.size() : end + 1;
    }
}

std::optional<std::string> SourceText::line(int number) const {
    auto index = static_cast<size_t>(number) - 1;
    if (number < 1 || index / kLinesBetween >= beginnings_.size())
        return std::nullopt;
    size_t at = beginnings_[index / kLinesBetween];
    for (size_t left = index % kLinesBetween; left > 0; left--) {
        at = text_.find('\n', at);
        if (at == std::string::npos || ++at == text_.size())
            return std::nullopt;
    }
    size_t end = std::min(text_.find('\n', at), text_.size());
    if (end > at && text_[end - 1] == '\r')
        end--;
    std::string_view line = std::string_view(text_).substr(at, end - at);
    if (line.size() > kMaxLineBytes)
        return std::string(line.substr(0, start_of_character(line, kMaxLineBytes))) + "...";
    return std::string(line);
}

SourceFiles::SourceFiles(int pid)
    : pid_(pid),
      root_(open(fmt::format("/proc/{}/root", pid).c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC)),
      cwd_(open(fmt::format("/proc/{}/cwd", pid).c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC)),
      who_(read_credentials(pid)) {}

SourceFiles::~SourceFiles() {
    for (const auto &[name, text] : files_)
        all_bytes -= text.bytes();
}

std::string SourceFiles::full_path(const std::string &file) const {
    if (file.starts_with('/'))
        return file;
    // A relative name is relative to the working directory, as the target's root sees it.
    char cwd[PATH_MAX];
    ssize_t n = readlink(fmt::format("/proc/self/fd/{}", cwd_.get()).c_str(), cwd, sizeof(cwd));
    char root[PATH_MAX];
    ssize_t m = readlink(fmt::format("/proc/self/fd/{}", root_.get()).c_str(), root, sizeof(root));
    if (n <= 0 || m <= 0)
        return "";
    std::string directory(cwd, static_cast<size_t>(n)), prefix(root, static_cast<size_t>(m));
    if (prefix != "/" && directory.starts_with(prefix))
        directory.erase(0, prefix.size());
    return directory + "/" + file;
}

bool SourceFiles::exists(const std::string &file) const {
    std::string path = can_look() ? full_path(file) : "";
    return !path.empty() && ReadingChild::instance().has_file(pid_, *who_, root_.get(), path);
}

SourceText SourceFiles::read(const std::string &file) const {
    std::string path = can_look() && !file.empty() && file[0] != '<' ? full_path(file) : "";
    if (path.empty())
        return {};
    std::string text;
    std::vector<char> piece(256 << 10);
    for (;;) {
        ssize_t n =
            ReadingChild::instance().read_file(pid_, *who_, root_.get(), path, text.size(), piece.data(), piece.size());
        if (n < 0 || text.size() + static_cast<size_t>(n) > std::min(kMaxSourceBytes, kMaxAllBytes - all_bytes))
            return {};
        if (n == 0)
            return SourceText(std::move(text));
        text.append(piece.data(), static_cast<size_t>(n));
    }
}

std::optional<std::string> SourceFiles::line(const std::string &file, int number) {
    auto found = files_.find(file);
    if (found == files_.end()) {
        if (files_.size() >= kMaxFiles || !MemoryBudget::instance().allows(Detail::kSources))
            return std::nullopt;
        found = files_.emplace(file, read(file)).first;
        all_bytes += found->second.bytes();
    }
    return found->second.line(number);
}

}  // namespace memtrace
