// SPDX-License-Identifier: Apache-2.0
#include "process/reading_child.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <new>
#include <utility>

#include "process/given_up.h"
#include "process/proc_files.h"
#include "process/reading_exchange.h"
#include "process/sandbox.h"

namespace memtrace {

namespace {

using Clock = std::chrono::steady_clock;
using namespace std::chrono_literals;

constexpr size_t kPieceBytes = ReadingChild::kMostCopied;
constexpr auto kPatience = 1000ms, kLeastPatience = 16ms, kLookAgain = 8ms;
constexpr size_t kMaxLeftBehind = 64;

// 'R': it runs, or would; 'S' and 'D': it waits; 'Z' and 'X', or '?' where there is none: it has ended.
char state_of(pid_t pid) {
    auto text = read_whole_file(fmt::format("/proc/{}/stat", pid));
    size_t at = text ? text->rfind(") ") : std::string::npos;
    return at == std::string::npos || at + 2 >= text->size() ? '?' : (*text)[at + 2];
}

}  // namespace

ReadingChild &ReadingChild::instance() {
    static ReadingChild child;
    return child;
}

ReadingChild::~ReadingChild() {
    end();
}

// False, and errno says why, where nothing is read of this process any more.
bool ReadingChild::start(int pid) {
    if (GivenUp::instance().contains(pid, GivenUp::kMemory) || (!exchange_ && left_behind_ >= kMaxLeftBehind)) {
        errno = ETIMEDOUT;
        return false;
    }
    if (exchange_)
        return true;
    void *shared = mmap(nullptr, sizeof(ReadingExchange), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED)
        return false;
    auto *exchange = new (shared) ReadingExchange;
    exchange->parent = getpid();
    pid_t child = fork();
    if (child == 0)
        serve_reads(*exchange);
    if (child < 0) {
        munmap(shared, sizeof(ReadingExchange));
        return false;
    }
    madvise(shared, sizeof(ReadingExchange), MADV_DONTFORK);  // for no other child of ours
    exchange_ = exchange;
    child_ = child;
    return true;
}

void ReadingChild::end() {
    if (!exchange_)
        return;
    end_child(child_);
    munmap(exchange_, sizeof(ReadingExchange));
    exchange_ = nullptr;
    child_ = -1;
}

std::chrono::milliseconds ReadingChild::patience() const {
    size_t before = std::min<size_t>(GivenUp::instance().times(GivenUp::kMemory), 8);
    return std::max<std::chrono::milliseconds>(kPatience / (1 << before), kLeastPatience);
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
    GivenUp::instance().add(pid, GivenUp::kMemory);
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
            exchange_->operation = Reading::kMemory;
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
    exchange_->operation = Reading::kProcFile;
    exchange_->offset = offset;
    name_proc_file(pid, name);
    return ask_for_bytes(pid, into, size);
}

PageTables ReadingChild::new_page_tables(int pid) {
    static uint64_t number = 0;
    return {pid, ++number};
}

ssize_t ReadingChild::ask_of_tables(Reading operation, const PageTables &tables, uint64_t address, size_t size) {
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
        ssize_t n = ask_of_tables(Reading::kResident, tables, address + done, piece);
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
    if (pages * page > kPieceBytes || ask_of_tables(Reading::kCopy, tables, start, pages * page) < 0)
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
    ssize_t n = ask_of_tables(Reading::kPageTables, tables, first_page * sizeof(uint64_t), bytes);
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
    ssize_t n = ask_of_tables(Reading::kScan, tables, start, std::min(regions.size_bytes(), kPieceBytes));
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
    exchange_->operation = Reading::kFile;
    exchange_->offset = offset;
    return ask_for_bytes(pid, into, size);
}

bool ReadingChild::has_file(int pid, const Credentials &who, int root, const std::string &path) {
    if (!start(pid) || !set_file(who, root, path))
        return false;
    exchange_->operation = Reading::kHasFile;
    exchange_->count = 1;
    exchange_->size = 1;
    return ask(pid) == 1;
}

}  // namespace memtrace
