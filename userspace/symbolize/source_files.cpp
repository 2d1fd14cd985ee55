// SPDX-License-Identifier: Apache-2.0
#include "symbolize/source_files.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <climits>

namespace memtrace {

namespace {

constexpr off_t kMaxSourceBytes = 16 << 20;

// Where symbolic links and ".." cannot lead out of `root`.
FileDescriptor open_in_root(int root, const std::string &path, int flags) {
    open_how how{};
    how.flags = static_cast<unsigned>(flags | O_CLOEXEC);
    how.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS;
    return FileDescriptor(static_cast<int>(syscall(SYS_openat2, root, path.c_str(), &how, sizeof(how))));
}

std::vector<std::string> split_lines(const std::string &text) {
    std::vector<std::string> lines;
    size_t at = 0;
    while (at < text.size()) {
        size_t end = text.find('\n', at);
        if (end == std::string::npos)
            end = text.size();
        std::string line = text.substr(at, end - at);
        for (char &c : line)
            if (static_cast<unsigned char>(c) < 0x20 && c != '\t')
                c = ' ';  // what a terminal would obey
        lines.push_back(std::move(line));
        at = end + 1;
    }
    return lines;
}

}  // namespace

SourceFiles::SourceFiles(int pid)
    : root_(open(fmt::format("/proc/{}/root", pid).c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC)),
      cwd_(open(fmt::format("/proc/{}/cwd", pid).c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC)) {
    struct stat status;
    if (stat(fmt::format("/proc/{}", pid).c_str(), &status) == 0)
        uid_ = status.st_uid;
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
    std::string path = root_ ? full_path(file) : "";
    return !path.empty() && open_in_root(root_.get(), path, O_PATH);
}

std::vector<std::string> SourceFiles::read_lines(const std::string &file) const {
    if (file.empty() || file[0] == '<' || !root_)
        return {};
    std::string path = full_path(file);
    if (path.empty())
        return {};
    FileDescriptor source = open_in_root(root_.get(), path, O_RDONLY | O_NONBLOCK | O_NOCTTY);
    struct stat status;
    if (!source || fstat(source.get(), &status) != 0 || !S_ISREG(status.st_mode) || status.st_size > kMaxSourceBytes)
        return {};
    bool readable_by_target = uid_ == 0 || (status.st_mode & S_IROTH) || status.st_uid == uid_;
    if (!readable_by_target)
        return {};
    std::string text(static_cast<size_t>(status.st_size), '\0');
    size_t have = 0;
    while (have < text.size()) {
        ssize_t n = read(source.get(), text.data() + have, text.size() - have);
        if (n <= 0)
            break;
        have += static_cast<size_t>(n);
    }
    text.resize(have);
    return split_lines(text);
}

std::optional<std::string> SourceFiles::line(const std::string &file, int number) {
    auto found = files_.find(file);
    if (found == files_.end())
        found = files_.emplace(file, read_lines(file)).first;
    if (number < 1 || static_cast<size_t>(number) > found->second.size())
        return std::nullopt;
    return found->second[static_cast<size_t>(number) - 1];
}

}  // namespace memtrace
