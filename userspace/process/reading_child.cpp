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

#include "base/file_descriptor.h"
#include "process/sandbox.h"
#include "process/capabilities.h"
#include "process/proc_files.h"
#include "process/regular_file.h"

namespace memtrace {

namespace {

using Clock = std::chrono::steady_clock;
using namespace std::chrono_literals;

constexpr size_t kPieceBytes = 1 << 20;  // an arena of pymalloc
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

enum class ReadingChild::Operation { kMemory, kProcFile, kFile, kHasFile };

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
    Credentials who;
    ssize_t result;
    int error;
    char root[64];
    char file[PATH_MAX];
    uint64_t addresses[kMaxAddresses];
    uint8_t bytes[kPieceBytes];
};

ssize_t ReadingChild::answer(Exchange &exchange) {
    if (exchange.operation == Operation::kMemory) {
        static iovec remote[kMaxAddresses];
        iovec local{exchange.bytes, exchange.size * exchange.count};
        for (uint32_t i = 0; i < exchange.count; i++)
            remote[i] = {reinterpret_cast<void *>(exchange.addresses[i]), exchange.size};
        return process_vm_readv(exchange.pid, &local, 1, remote, exchange.count, 0);
    }
    if (exchange.operation == Operation::kProcFile) {
        FileDescriptor file(open(exchange.file, O_RDONLY | O_CLOEXEC));
        return file ? read_all(file.get(), exchange.bytes, exchange.size, 0) : -1;
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
    if (!refuse_other_calls({SYS_process_vm_readv, SYS_openat2, SYS_setfsuid, SYS_setfsgid, SYS_setgroups,
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
    exchange_->pid = pid;
    exchange_->asked.ring(exchange_->asked.number.load() + 1);
    if (wait_for_answer()) {
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

ssize_t ReadingChild::read_proc_file(int pid, const std::string &name, void *into, size_t size) {
    if (!start(pid))
        return -1;
    exchange_->operation = Operation::kProcFile;
    *fmt::format_to_n(exchange_->file, sizeof(exchange_->file) - 1, "/proc/{}/{}", pid, name).out = 0;
    return ask_for_bytes(pid, into, size);
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
