// SPDX-License-Identifier: Apache-2.0
#include "process/reading_child.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <linux/capability.h>
#include <linux/futex.h>
#include <linux/openat2.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <climits>
#include <cstring>
#include <ctime>
#include <new>
#include <utility>

#include "base/file_descriptor.h"
#include "process/sandbox.h"
#include "process/capabilities.h"
#include "process/proc_files.h"
#include "process/regular_file.h"

namespace memtrace {

namespace {

using Clock = std::chrono::steady_clock;
using namespace std::chrono_literals;

constexpr size_t kPieceBytes = ReadingChild::kMostCopied;  // an arena of pymalloc
constexpr auto kPatience = 1000ms, kLeastPatience = 16ms, kLookAgain = 8ms;
constexpr timespec kSecond{1, 0};
constexpr size_t kMaxLeftBehind = 64;

// 'R': it runs, or would; 'S' and 'D': it waits; 'Z' and 'X', or '?' where there is none: it has ended.
char state_of(pid_t pid) {
    auto text = read_whole_file(fmt::format("/proc/{}/stat", pid));
    size_t at = text ? text->rfind(") ") : std::string::npos;
    return at == std::string::npos || at + 2 >= text->size() ? '?' : (*text)[at + 2];
}

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

}  // namespace

// A number that one side raises and the other waits for.
struct ReadingChild::Bell {
    std::atomic<uint32_t> number;
    std::atomic<uint32_t> sleeps;  // whether the other side does

    void ring(uint32_t next) {
        number.store(next);
        if (sleeps.load())
            syscall(SYS_futex, &number, FUTEX_WAKE, 1, nullptr, nullptr, 0);
    }

    // Returns when the number is another, or for no reason, or after this time. Most answers take a few microseconds,
    // and to sleep and be woken takes ten times as long: so it looks for a while before.
    void wait(uint32_t old, const timespec &longest) {
        for (int i = 0; i < kLooks; i++) {
            if (number.load() != old)
                return;
#if defined(__x86_64__)
            __builtin_ia32_pause();
#else
            asm volatile("yield");
#endif
        }
        sleeps.store(1);
        if (number.load() == old)
            syscall(SYS_futex, &number, FUTEX_WAIT, old, &longest, nullptr, 0);
        sleeps.store(0);
    }

    // Some forty microseconds; of no use where there is one processor.
    inline static const int kLooks = sysconf(_SC_NPROCESSORS_ONLN) > 1 ? 2000 : 0;
};

enum class ReadingChild::Operation { kMemory, kResident, kCopy, kPageTables, kScan, kProcFile, kFile, kHasFile };

// What both see. The child believes what it finds here, and we believe nothing but lengths, which we compare with what
// was asked for: the child reads foreign bytes, and interprets none.
struct ReadingChild::Exchange {
    Bell asked;     // grows by one with each request
    Bell answered;  // follows it
    pid_t parent;
    Operation operation;
    int pid;
    uint32_t count;   // of addresses, or 1
    size_t size;      // of the bytes at each
    uint64_t offset;  // in the file
    uint64_t tables;  // PageTables::number
    uint64_t end;     // of what is scanned, whose beginning is addresses[0], and its end afterwards
    Credentials who;
    ssize_t result;
    int error;
    char root[64];
    char file[PATH_MAX];
    uint64_t addresses[kMaxAddresses];
    uint64_t words[kPieceBytes / 4096];  // of pages that were copied: 0 where one was not
    alignas(8) uint8_t bytes[kPieceBytes];
};

namespace {

// In the child, as all below. The last file of /proc is kept open: the kernel finds where it was.
FileDescriptor &proc_file(const char *name, bool anew) {
    static std::string last_name;
    static FileDescriptor last;
    if (anew || last_name != name) {
        last = FileDescriptor(open(name, O_RDONLY | O_CLOEXEC));
        last_name = name;
    }
    return last;
}

ssize_t read_at(pid_t pid, std::span<const uint64_t> addresses, void *into, size_t size) {
    static iovec remote[ReadingChild::kMaxAddresses];
    iovec local{into, size * addresses.size()};
    for (size_t i = 0; i < addresses.size(); i++)
        remote[i] = {reinterpret_cast<void *>(addresses[i]), size};
    return process_vm_readv(pid, &local, 1, remote, addresses.size(), 0);
}

// Whether all of these bytes are in memory.
bool is_resident(int page_map, uint64_t address, size_t size) {
    static uint64_t words[kPieceBytes / 4096 + 1];
    static const auto page = static_cast<uint64_t>(getpagesize());
    uint64_t first = address / page, count = (address + size - 1) / page - first + 1;
    auto wanted = static_cast<ssize_t>(count * sizeof(words[0]));
    return count <= std::size(words) && read_all(page_map, words, static_cast<size_t>(wanted), first * 8) == wanted &&
           std::all_of(words, words + count, [](uint64_t word) { return word & kPageIsPresent; });
}

// Copies those pages that are in memory, whose words say so, each to its place. One that went meanwhile has none then.
void copy_pages(pid_t pid, uint64_t start, std::span<uint64_t> words, uint8_t *into) {
    static const auto page = static_cast<size_t>(getpagesize());
    static iovec local[kPieceBytes / 4096], remote[kPieceBytes / 4096];
    for (size_t at = 0; at < words.size();) {
        size_t count = 0, bytes = 0, first = at;
        for (; at < words.size() && count < std::size(local); at++) {
            if (!(words[at] & kPageIsPresent))
                continue;
            if (count &&
                remote[count - 1].iov_base == reinterpret_cast<void *>(start + at * page - remote[count - 1].iov_len)) {
                local[count - 1].iov_len += page;
                remote[count - 1].iov_len += page;
            } else {
                local[count] = {into + at * page, page};
                remote[count++] = {reinterpret_cast<void *>(start + at * page), page};
            }
            bytes += page;
        }
        if (!count)
            return;
        ssize_t n = process_vm_readv(pid, local, count, remote, count, 0);
        if (n == static_cast<ssize_t>(bytes))
            continue;
        // Those that were read are the first; behind them, it is tried again.
        size_t read = static_cast<size_t>(std::max<ssize_t>(n, 0)) / page;
        for (at = first; at < words.size(); at++)
            if (words[at] & kPageIsPresent && read-- == 0)
                break;
        if (at < words.size())
            words[at++] = 0;
    }
}

}  // namespace

ssize_t ReadingChild::answer_of_tables(Exchange &exchange) {
    static FileDescriptor page_map;
    static uint64_t number = 0;
    if (number != exchange.tables) {
        page_map = FileDescriptor(open(exchange.file, O_RDONLY | O_CLOEXEC));
        number = exchange.tables;
    }
    if (!page_map) {
        errno = ESRCH;
        return -1;
    }
    uint64_t &address = exchange.addresses[0];
    if (exchange.operation == Operation::kPageTables)
        return read_all(page_map.get(), exchange.bytes, exchange.size, address);
    if (exchange.operation == Operation::kScan)
        return scan_page_map(page_map.get(), address, exchange.end,
                             {reinterpret_cast<PageRegion *>(exchange.bytes), exchange.size / sizeof(PageRegion)});
    if (exchange.operation == Operation::kCopy) {
        const auto page = static_cast<uint64_t>(getpagesize());
        std::span words(exchange.words, std::min(exchange.size / page, std::size(exchange.words)));
        if (read_all(page_map.get(), words.data(), words.size_bytes(), address / page * sizeof(words[0])) !=
            static_cast<ssize_t>(words.size_bytes()))
            return -1;
        copy_pages(exchange.pid, address, words, exchange.bytes);
        return static_cast<ssize_t>(exchange.size);
    }
    if (!is_resident(page_map.get(), address, exchange.size)) {
        errno = EFAULT;
        return -1;
    }
    return read_at(exchange.pid, {&address, 1}, exchange.bytes, exchange.size);
}

ssize_t ReadingChild::answer(Exchange &exchange) {
    switch (exchange.operation) {
        case Operation::kMemory:
            return read_at(exchange.pid, {exchange.addresses, exchange.count}, exchange.bytes, exchange.size);
        case Operation::kResident:
        case Operation::kCopy:
        case Operation::kPageTables:
        case Operation::kScan:
            return answer_of_tables(exchange);
        case Operation::kProcFile: {
            const FileDescriptor &file = proc_file(exchange.file, !exchange.offset);
            return file ? read_all(file.get(), exchange.bytes, exchange.size, exchange.offset) : -1;
        }
        default:
            break;
    }
    FileDescriptor root(open(exchange.root, O_PATH | O_DIRECTORY | O_CLOEXEC));
    ActingAs target(exchange.who);
    FileDescriptor found = find_in_root(root, exchange.file);
    if (exchange.operation == Operation::kHasFile)
        return found ? 1 : -1;
    FileDescriptor file = open_regular_file(found);
    return file ? read_all(file.get(), exchange.bytes, exchange.size, exchange.offset) : -1;
}

void ReadingChild::serve(Exchange &exchange) {
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

ReadingChild &ReadingChild::instance() {
    static ReadingChild child;
    return child;
}

ReadingChild::~ReadingChild() {
    end();
}

// False, and errno says why, where nothing is read of this process any more.
bool ReadingChild::start(int pid) {
    if (given_up_.contains(pid) || (!exchange_ && left_behind_ >= kMaxLeftBehind)) {
        errno = ETIMEDOUT;
        return false;
    }
    if (exchange_)
        return true;
    void *shared = mmap(nullptr, sizeof(Exchange), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED)
        return false;
    auto *exchange = new (shared) Exchange;
    exchange->parent = getpid();
    pid_t child = fork();
    if (child == 0)
        serve(*exchange);
    if (child < 0) {
        munmap(shared, sizeof(Exchange));
        return false;
    }
    madvise(shared, sizeof(Exchange), MADV_DONTFORK);  // for no other child of ours
    exchange_ = exchange;
    child_ = child;
    return true;
}

void ReadingChild::end() {
    if (!exchange_)
        return;
    end_child(child_);
    munmap(exchange_, sizeof(Exchange));
    exchange_ = nullptr;
    child_ = -1;
}

std::chrono::milliseconds ReadingChild::patience() const {
    return std::max<std::chrono::milliseconds>(kPatience / (uint64_t{1} << std::min<size_t>(given_up_.size(), 8)),
                                               kLeastPatience);
}

// False when it has not answered, and will not, as far as one can tell.
bool ReadingChild::wait_for_answer() {
    uint32_t asked = exchange_->asked.number.load(), answered;
    constexpr timespec kMoment{0, std::chrono::nanoseconds(kLookAgain).count()};
    auto held = 0ms;
    while ((answered = exchange_->answered.number.load()) != asked) {
        auto before = Clock::now();
        exchange_->answered.wait(answered, kMoment);
        if (Clock::now() - before < kLookAgain)
            continue;
        if (look_)
            look_();
        char state = state_of(child_);
        if (state == 'Z' || state == 'X' || state == '?')
            return false;
        if (state != 'R' && (held += kLookAgain) >= patience())
            return false;
    }
    return true;
}

// Sends what was written to the exchange.
ssize_t ReadingChild::ask(int pid) {
    if (look_)
        look_();
    exchange_->pid = pid;
    exchange_->asked.ring(exchange_->asked.number.load() + 1);
    bool is_answered = false;
    try {
        is_answered = wait_for_answer();
    } catch (...) {
        end();  // what it still writes is for nobody
        throw;
    }
    if (is_answered) {
        ssize_t result = exchange_->result;
        errno = exchange_->error;
        return std::min(result, static_cast<ssize_t>(exchange_->size * exchange_->count));
    }
    given_up_.insert(pid);
    end();
    left_behind_++;
    errno = ETIMEDOUT;
    return -1;
}

ssize_t ReadingChild::ask_for_bytes(int pid, void *into, size_t size) {
    exchange_->count = 1;
    exchange_->size = std::min(size, kPieceBytes);
    ssize_t n = ask(pid);
    if (n > 0)
        std::memcpy(into, exchange_->bytes, static_cast<size_t>(n));
    return n;
}

ssize_t ReadingChild::read_memory(int pid, std::span<const uint64_t> addresses, void *into, size_t size) {
    if (addresses.empty() || addresses.size() > kMaxAddresses || !size) {
        errno = EINVAL;
        return -1;
    }
    // As many as there is room for, or of a large one a piece, at a time.
    auto *to = static_cast<uint8_t *>(into);
    size_t done = 0, at_once = std::max<size_t>(1, kPieceBytes / size);
    for (size_t first = 0; first < addresses.size(); first += at_once) {
        size_t count = std::min(at_once, addresses.size() - first);
        for (size_t offset = 0; offset < size; offset += kPieceBytes) {
            if (!start(pid))
                return done ? static_cast<ssize_t>(done) : -1;
            size_t piece = std::min(size - offset, kPieceBytes);
            exchange_->operation = Operation::kMemory;
            exchange_->count = static_cast<uint32_t>(count);
            exchange_->size = piece;
            for (size_t i = 0; i < count; i++)
                exchange_->addresses[i] = addresses[first + i] + offset;
            ssize_t n = ask(pid);
            if (n <= 0)
                return done ? static_cast<ssize_t>(done) : n;
            std::memcpy(to + done, exchange_->bytes, static_cast<size_t>(n));
            done += static_cast<size_t>(n);
            if (static_cast<size_t>(n) < piece * count)
                return static_cast<ssize_t>(done);
        }
    }
    return static_cast<ssize_t>(done);
}

void ReadingChild::name_proc_file(int pid, const std::string &name) {
    *fmt::format_to_n(exchange_->file, sizeof(exchange_->file) - 1, "/proc/{}/{}", pid, name).out = 0;
}

ssize_t ReadingChild::read_proc_file(int pid, const std::string &name, uint64_t offset, void *into, size_t size) {
    if (!start(pid))
        return -1;
    exchange_->operation = Operation::kProcFile;
    exchange_->offset = offset;
    name_proc_file(pid, name);
    return ask_for_bytes(pid, into, size);
}

PageTables ReadingChild::new_page_tables(int pid) {
    static uint64_t number = 0;
    return {pid, ++number};
}

ssize_t ReadingChild::ask_of_tables(Operation operation, const PageTables &tables, uint64_t address, size_t size) {
    if (!start(tables.pid))
        return -1;
    exchange_->operation = operation;
    exchange_->tables = tables.number;
    exchange_->addresses[0] = address;
    exchange_->count = 1;
    exchange_->size = size;
    name_proc_file(tables.pid, "pagemap");
    return ask(tables.pid);
}

ssize_t ReadingChild::read_resident(const PageTables &tables, uint64_t address, void *into, size_t size) {
    auto *to = static_cast<uint8_t *>(into);
    for (size_t done = 0; done < size;) {
        size_t piece = std::min(size - done, kPieceBytes);
        ssize_t n = ask_of_tables(Operation::kResident, tables, address + done, piece);
        if (n != static_cast<ssize_t>(piece))
            return -1;
        std::memcpy(to + done, exchange_->bytes, piece);
        done += piece;
    }
    return static_cast<ssize_t>(size);
}

bool ReadingChild::copy_resident(const PageTables &tables, uint64_t start, uint64_t end, void *into,
                                 std::vector<bool> &present) {
    const auto page = static_cast<uint64_t>(getpagesize());
    size_t pages = (end - start) / page;
    if (pages * page > kPieceBytes || ask_of_tables(Operation::kCopy, tables, start, pages * page) < 0)
        return false;
    auto *to = static_cast<uint8_t *>(into);
    for (size_t i = 0; i < pages; i++) {
        bool is_present = exchange_->words[i] & kPageIsPresent;
        present.push_back(is_present);
        if (is_present)
            std::memcpy(to + i * page, exchange_->bytes + i * page, page);
    }
    return true;
}

ssize_t ReadingChild::read_page_tables(const PageTables &tables, uint64_t first_page, std::span<uint64_t> words) {
    size_t bytes = std::min(words.size_bytes(), kPieceBytes);
    ssize_t n = ask_of_tables(Operation::kPageTables, tables, first_page * sizeof(uint64_t), bytes);
    if (n <= 0)
        return n;
    std::memcpy(words.data(), exchange_->bytes, static_cast<size_t>(n));
    return n / static_cast<ssize_t>(sizeof(uint64_t));
}

ssize_t ReadingChild::scan_page_tables(const PageTables &tables, uint64_t &start, uint64_t end,
                                       std::span<PageRegion> regions) {
    if (!this->start(tables.pid))
        return -1;
    exchange_->end = end;
    ssize_t n = ask_of_tables(Operation::kScan, tables, start, std::min(regions.size_bytes(), kPieceBytes));
    if (n < 0)
        return n;
    auto count = std::min(static_cast<size_t>(n), regions.size());
    std::memcpy(regions.data(), exchange_->bytes, count * sizeof(PageRegion));
    start = exchange_->addresses[0];
    return static_cast<ssize_t>(count);
}

std::string ReadingChild::describe(int error) {
    return error == ETIMEDOUT ? "it holds who looks at it: what was asked for did not come within a second"
                              : strerror(error);
}

ReadingChild::Watch::Watch(std::function<void()> look) : before_(std::exchange(instance().look_, std::move(look))) {}

ReadingChild::Watch::~Watch() {
    instance().look_ = std::move(before_);
}

// The folder is one of our open files, and not the child's: it opens it again.
bool ReadingChild::set_file(const Credentials &who, int root, const std::string &path) {
    if (path.size() >= sizeof(exchange_->file)) {
        errno = ENAMETOOLONG;
        return false;
    }
    exchange_->who = who;
    *fmt::format_to_n(exchange_->root, sizeof(exchange_->root) - 1, "/proc/{}/fd/{}", getpid(), root).out = 0;
    std::memcpy(exchange_->file, path.c_str(), path.size() + 1);
    return true;
}

ssize_t ReadingChild::read_file(int pid, const Credentials &who, int root, const std::string &path, uint64_t offset,
                                void *into, size_t size) {
    if (!start(pid) || !set_file(who, root, path))
        return -1;
    exchange_->operation = Operation::kFile;
    exchange_->offset = offset;
    return ask_for_bytes(pid, into, size);
}

bool ReadingChild::has_file(int pid, const Credentials &who, int root, const std::string &path) {
    if (!start(pid) || !set_file(who, root, path))
        return false;
    exchange_->operation = Operation::kHasFile;
    exchange_->count = 1;
    exchange_->size = 1;
    return ask(pid) == 1;
}

}  // namespace memtrace
