// SPDX-License-Identifier: Apache-2.0
// The child's side of process/reading_child.h. It reads foreign bytes, and interprets none.
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/openat2.h>
#include <sys/uio.h>

#include <algorithm>
#include <cerrno>
#include <optional>
#include <span>
#include <string>

#include "base/file_descriptor.h"
#include "process/capabilities.h"
#include "process/page_scan.h"
#include "process/reading_exchange.h"
#include "process/regular_file.h"
#include "process/sandbox.h"

namespace memtrace {

namespace {

constexpr timespec kSecond{1, 0};

// Up to the file's end, or what there is room for.
ssize_t read_all(int file, void *into, size_t size, uint64_t offset) {
    size_t done = 0;
    while (done < size) {
        ssize_t n = pread(file, static_cast<uint8_t *>(into) + done, size - done, static_cast<off_t>(offset + done));
        if (n < 0)
            return -1;
        if (n == 0)
            break;
        done += static_cast<size_t>(n);
    }
    return static_cast<ssize_t>(done);
}

FileDescriptor find_in_root(const FileDescriptor &root, const char *path) {
    open_how how{};
    how.flags = O_PATH | O_CLOEXEC;
    how.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS;
    return FileDescriptor(static_cast<int>(syscall(SYS_openat2, root.get(), path, &how, sizeof(how))));
}

// The last file of /proc is kept open: the kernel finds where it was.
FileDescriptor &proc_file(const char *name, bool anew) {
    static std::string last_name;
    static FileDescriptor last;
    if (anew || last_name != name) {
        last = FileDescriptor(open(name, O_RDONLY | O_CLOEXEC));
        last_name = name;
    }
    return last;
}

// How many bytes, up to the first that could not be read.
ssize_t read_at(pid_t pid, std::span<const uint64_t> addresses, void *into, size_t size) {
    static iovec remote[ReadingChild::kMaxAddresses];
    iovec local{into, size * addresses.size()};
    for (size_t i = 0; i < addresses.size(); i++)
        remote[i] = {reinterpret_cast<void *>(addresses[i]), size};
    return process_vm_readv(pid, &local, 1, remote, addresses.size(), 0);
}

// Pages that are in memory, of one process. process_vm_readv() would give it a copy of its own of each anonymous page
// that it has in common with one that it was forked from, or that was forked from it: gup_must_unshare(), Linux 5.19
// and later. /proc/PID/mem does not; but it holds the lock of the process's mappings while a page is brought, which a
// file system may never do: so it is for anonymous pages alone. (Whoever puts a file's page in the place of an
// anonymous one in that moment could hold the lock by themselves as well.)
class PageReader {
  public:
    explicit PageReader(pid_t pid)
        : pid_(pid), memory_(open(("/proc/" + std::to_string(pid) + "/mem").c_str(), O_RDONLY | O_CLOEXEC)) {}

    static bool is_anonymous(uint64_t word) {
        return !(word & kPageIsOfFile);
    }
    // `word`: that of the pages that these bytes lie in, which are all of one kind.
    ssize_t read(uint64_t address, void *into, size_t size, uint64_t word) const {
        if (is_anonymous(word) && memory_)
            return pread(memory_.get(), into, size, static_cast<off_t>(address));
        return read_at(pid_, {&address, 1}, into, size);
    }

  private:
    pid_t pid_;
    FileDescriptor memory_;
};

// Copies those pages that are in memory, whose words say so, each to its place. One that went meanwhile has none then.
void copy_pages(const PageReader &pages, uint64_t start, std::span<uint64_t> words, uint8_t *into) {
    static const auto page = static_cast<size_t>(getpagesize());
    for (size_t at = 0; at < words.size();) {
        if (!(words[at] & kPageIsPresent)) {
            at++;
            continue;
        }
        size_t count = 1;
        while (at + count < words.size() && words[at + count] & kPageIsPresent &&
               PageReader::is_anonymous(words[at + count]) == PageReader::is_anonymous(words[at]))
            count++;
        ssize_t n = pages.read(start + at * page, into + at * page, count * page, words[at]);
        size_t read = static_cast<size_t>(std::max<ssize_t>(n, 0)) / page;
        if (read < count)
            words[at + read++] = 0;
        at += read;
    }
}

// All of these bytes, if all are in memory; else -1.
ssize_t read_present(const PageReader &pages, int page_map, uint64_t address, uint8_t *into, size_t size) {
    static uint64_t words[ReadingChild::kMostCopied / 4096 + 1];
    static const auto page = static_cast<uint64_t>(getpagesize());
    const uint64_t first = address / page, end = address + size;
    const size_t count = (end - 1) / page - first + 1;
    auto wanted = static_cast<ssize_t>(count * sizeof(words[0]));
    errno = EFAULT;
    if (count > std::size(words) || read_all(page_map, words, static_cast<size_t>(wanted), first * 8) != wanted ||
        !std::all_of(words, words + count, [](uint64_t word) { return word & kPageIsPresent; }))
        return -1;
    for (size_t i = 0, same; i < count; i += same) {
        for (same = 1;
             i + same < count && PageReader::is_anonymous(words[i + same]) == PageReader::is_anonymous(words[i]);)
            same++;
        uint64_t from = std::max(address, (first + i) * page), to = std::min(end, (first + i + same) * page);
        if (pages.read(from, into + (from - address), to - from, words[i]) != static_cast<ssize_t>(to - from))
            return -1;
    }
    return static_cast<ssize_t>(size);
}

ssize_t answer_of_tables(ReadingExchange &exchange) {
    static FileDescriptor page_map;  // of one program, as its memory: neither is the next one's, after an exec
    static std::optional<PageReader> pages;
    static uint64_t number = 0;
    if (number != exchange.tables) {
        page_map = FileDescriptor(open(exchange.file, O_RDONLY | O_CLOEXEC));
        pages.emplace(exchange.pid);
        number = exchange.tables;
    }
    if (!page_map) {
        errno = ESRCH;
        return -1;
    }
    uint64_t &address = exchange.addresses[0];
    if (exchange.operation == Reading::kPageTables)
        return read_all(page_map.get(), exchange.bytes, exchange.size, address);
    if (exchange.operation == Reading::kScan)
        return scan_page_map(page_map.get(), address, exchange.end,
                             {reinterpret_cast<PageRegion *>(exchange.bytes), exchange.size / sizeof(PageRegion)});
    if (exchange.operation == Reading::kCopy) {
        const auto page = static_cast<uint64_t>(getpagesize());
        std::span words(exchange.words, std::min(exchange.size / page, std::size(exchange.words)));
        if (read_all(page_map.get(), words.data(), words.size_bytes(), address / page * sizeof(words[0])) !=
            static_cast<ssize_t>(words.size_bytes()))
            return -1;
        copy_pages(*pages, address, words, exchange.bytes);
        return static_cast<ssize_t>(exchange.size);
    }
    return read_present(*pages, page_map.get(), address, exchange.bytes, exchange.size);
}

ssize_t answer(ReadingExchange &exchange) {
    switch (exchange.operation) {
        case Reading::kMemory:
            return read_at(exchange.pid, {exchange.addresses, exchange.count}, exchange.bytes, exchange.size);
        case Reading::kResident:
        case Reading::kCopy:
        case Reading::kPageTables:
        case Reading::kScan:
            return answer_of_tables(exchange);
        case Reading::kProcFile: {
            const FileDescriptor &file = proc_file(exchange.file, !exchange.offset);
            return file ? read_all(file.get(), exchange.bytes, exchange.size, exchange.offset) : -1;
        }
        default:
            break;
    }
    FileDescriptor root(open(exchange.root, O_PATH | O_DIRECTORY | O_CLOEXEC));
    ActingAs target(exchange.who);
    FileDescriptor found = find_in_root(root, exchange.file);
    if (exchange.operation == Reading::kHasFile)
        return found ? 1 : -1;
    FileDescriptor file = open_regular_file(found);
    return file ? read_all(file.get(), exchange.bytes, exchange.size, exchange.offset) : -1;
}

}  // namespace

void serve_reads(ReadingExchange &exchange) {
    become_helper({});
    // To read other users' memory, to be the user whose files are read, and what that user may have.
    keep_capabilities({CAP_SYS_PTRACE, CAP_SETUID, CAP_SETGID, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH});
    if (!refuse_other_calls({SYS_process_vm_readv, SYS_ioctl, SYS_openat2, SYS_setfsuid, SYS_setfsgid, SYS_setgroups,
                             SYS_getgroups, SYS_getppid, SYS_capget, SYS_capset}))
        _exit(1);
    for (uint32_t done = 0;; done++) {
        // (Who has been another user gets no signal when its parent ends.)
        while (exchange.asked.number.load() == done) {
            exchange.asked.wait(done, kSecond);
            if (exchange.asked.number.load() == done && getppid() != exchange.parent)
                _exit(0);
        }
        exchange.result = answer(exchange);
        exchange.error = errno;
        exchange.answered.ring(done + 1);
    }
}

}  // namespace memtrace
