// SPDX-License-Identifier: Apache-2.0
#include "process/reading_child.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <linux/futex.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <ctime>

#include "base/file_descriptor.h"
#include "process/limited_child.h"
#include "process/proc_files.h"

namespace memtrace {

namespace {

using Clock = std::chrono::steady_clock;
using namespace std::chrono_literals;

constexpr size_t kPieceBytes = 256 << 10;
constexpr auto kPatience = 1000ms, kLeastPatience = 16ms, kLookAgain = 8ms;
constexpr size_t kMaxLeftBehind = 64;

void wake(std::atomic<uint32_t> &word) {
    syscall(SYS_futex, &word, FUTEX_WAKE, 1, nullptr, nullptr, 0);
}

// Returns when the word has another value, or for no reason, or after this time.
void wait_for_change(std::atomic<uint32_t> &word, uint32_t value, const timespec *longest) {
    syscall(SYS_futex, &word, FUTEX_WAIT, value, longest, nullptr, 0);
}

// 'R': it runs, or would; 'S' and 'D': it waits; 'Z' and 'X', or '?' where there is none: it has ended.
char state_of(pid_t pid) {
    auto text = read_whole_file(fmt::format("/proc/{}/stat", pid));
    size_t at = text ? text->rfind(") ") : std::string::npos;
    return at == std::string::npos || at + 2 >= text->size() ? '?' : (*text)[at + 2];
}

}  // namespace

// What both see. The child believes what it finds here, and we believe nothing but lengths, which we compare with what
// was asked for: the child reads foreign bytes, and interprets none.
struct ReadingChild::Exchange {
    std::atomic<uint32_t> asked;     // grows by one with each request
    std::atomic<uint32_t> answered;  // follows it
    int pid;
    uint32_t count;  // of addresses; 0: the file is read
    size_t size;     // at each
    ssize_t result;
    int error;
    char file[64];
    uint64_t addresses[kMaxAddresses];
    uint8_t bytes[kPieceBytes];
};

namespace {

template <typename Exchange>
ssize_t read_file(Exchange &exchange) {
    FileDescriptor file(open(exchange.file, O_RDONLY | O_CLOEXEC));
    size_t done = 0;
    while (file && done < exchange.size) {
        ssize_t n = read(file.get(), exchange.bytes + done, exchange.size - done);
        if (n < 0)
            return -1;
        if (n == 0)
            break;
        done += static_cast<size_t>(n);
    }
    return file ? static_cast<ssize_t>(done) : -1;
}

template <typename Exchange>
[[noreturn]] void serve(Exchange &exchange) {
    become_helper({});
    iovec remote[ReadingChild::kMaxAddresses];
    for (uint32_t done = 0;; done++) {
        while (exchange.asked.load(std::memory_order_acquire) == done)
            wait_for_change(exchange.asked, done, nullptr);
        iovec local{exchange.bytes, exchange.size * exchange.count};
        for (uint32_t i = 0; i < exchange.count; i++)
            remote[i] = {reinterpret_cast<void *>(exchange.addresses[i]), exchange.size};
        exchange.result =
            exchange.count ? process_vm_readv(exchange.pid, &local, 1, remote, exchange.count, 0) : read_file(exchange);
        exchange.error = errno;
        exchange.answered.store(done + 1, std::memory_order_release);
        wake(exchange.answered);
    }
}

}  // namespace

ReadingChild &ReadingChild::instance() {
    static ReadingChild child;
    return child;
}

ReadingChild::~ReadingChild() {
    end();
}

bool ReadingChild::start() {
    if (exchange_)
        return true;
    if (left_behind_ >= kMaxLeftBehind) {
        errno = ETIMEDOUT;
        return false;
    }
    void *shared = mmap(nullptr, sizeof(Exchange), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED)
        return false;
    auto *exchange = new (shared) Exchange;
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
    uint32_t asked = exchange_->asked.load(std::memory_order_relaxed), answered;
    timespec moment{0, std::chrono::nanoseconds(kLookAgain).count()};
    auto held = 0ms;
    while ((answered = exchange_->answered.load(std::memory_order_acquire)) != asked) {
        auto before = Clock::now();
        wait_for_change(exchange_->answered, answered, &moment);
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
    exchange_->asked.fetch_add(1, std::memory_order_release);
    wake(exchange_->asked);
    if (wait_for_answer()) {
        ssize_t result = exchange_->result;
        errno = exchange_->error;
        auto most = static_cast<ssize_t>(exchange_->size * std::max(exchange_->count, 1u));
        return std::min(result, most);
    }
    given_up_.insert(pid);
    end();
    left_behind_++;
    errno = ETIMEDOUT;
    return -1;
}

ssize_t ReadingChild::read_memory(int pid, std::span<const uint64_t> addresses, void *into, size_t size) {
    if (given_up_.contains(pid)) {
        errno = ETIMEDOUT;
        return -1;
    }
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
            if (!start())
                return done ? static_cast<ssize_t>(done) : -1;
            exchange_->count = static_cast<uint32_t>(count);
            exchange_->size = std::min(size - offset, kPieceBytes);
            for (size_t i = 0; i < count; i++)
                exchange_->addresses[i] = addresses[first + i] + offset;
            ssize_t n = ask(pid);
            if (n <= 0)
                return done ? static_cast<ssize_t>(done) : n;
            std::memcpy(to + done, exchange_->bytes, static_cast<size_t>(n));
            done += static_cast<size_t>(n);
            if (static_cast<size_t>(n) < exchange_->size * count)
                return static_cast<ssize_t>(done);
        }
    }
    return static_cast<ssize_t>(done);
}

ssize_t ReadingChild::read_proc_file(int pid, const std::string &name, void *into, size_t size) {
    if (given_up_.contains(pid)) {
        errno = ETIMEDOUT;
        return -1;
    }
    if (!start())
        return -1;
    exchange_->count = 0;
    exchange_->size = std::min(size, kPieceBytes);
    auto [end, length] = fmt::format_to_n(exchange_->file, sizeof(exchange_->file) - 1, "/proc/{}/{}", pid, name);
    *end = 0;
    ssize_t n = ask(pid);
    if (n > 0)
        std::memcpy(into, exchange_->bytes, static_cast<size_t>(n));
    return n;
}

}  // namespace memtrace
