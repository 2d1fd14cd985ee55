// SPDX-License-Identifier: Apache-2.0
// Reads that may never come back.
//
// A page that is not there is brought by the process's own file system (FUSE) or by itself (userfaultfd), when it
// likes, or never: whoever reads it, root and SIGKILL included, waits until then. So does who opens a file there, and
// who asks the kernel for the process's mappings while a thread of it changes them and waits for such a file system. So
// memory of processes, what /proc says of it, and files that they name, are read in a child of ours that can be left
// behind: it takes one request after the other, and shares with us the memory in which they are answered.
//
// A request that is held for longer than a second is given up, and its process with it: nothing more is read of that,
// so that it can hold us but once. Time in which the child would run, and waits for a processor, does not count. With
// each process that has held us, the next has half the time, and 16 ms at last: together they hold us for two seconds,
// and 16 ms each. At most 64 children are left behind; then nothing is read any more. One that is left behind ends when
// what it waits for does.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "process/credentials.h"
#include "process/page_scan.h"

namespace memtrace {

// The page tables of a process, as /proc/PID/pagemap has them: of the memory that it had when they were first asked
// for, which it has no more after an exec. The number is of who asks: one who begins anew has another.
struct PageTables {
    int pid;
    uint64_t number;
};

struct ReadingExchange;
enum class Reading;

// Not thread-safe. There is one, which has its child from the first read on.
class ReadingChild {
  public:
    static constexpr size_t kMaxAddresses = 1024;  // UIO_MAXIOV

    static ReadingChild &instance();
    ~ReadingChild();

    // `size` bytes at each of these addresses, at most kMaxAddresses, one after the other: how many bytes could be
    // read, up to the first that could not. -1: none, and errno says why; ETIMEDOUT: the process has been given up
    // (GivenUp::kMemory).
    ssize_t read_memory(int pid, std::span<const uint64_t> addresses, void *into, size_t size);
    // `size` bytes at this address, if all of their pages are in memory: none is brought there. -1: not all are, or as
    // above.
    ssize_t read_resident(const PageTables &tables, uint64_t address, void *into, size_t size);
    // Those pages of [start, end), page aligned and at most kMostCopied, that are in memory, each at its place; one bit
    // a page in `present`, which is not longer. False: they could not be told.
    bool copy_resident(const PageTables &tables, uint64_t start, uint64_t end, void *into, std::vector<bool> &present);
    static constexpr size_t kMostCopied = 1 << 20;  // an arena of pymalloc
    // At most `size` bytes of /proc/PID/NAME, from `offset` on: 0 at its end. At the beginning it is opened anew. As
    // above.
    ssize_t read_proc_file(int pid, const std::string &name, uint64_t offset, void *into, size_t size);
    static PageTables new_page_tables(int pid);
    // A word for each page from this one on (Documentation/admin-guide/mm/pagemap.rst): how many. As above.
    ssize_t read_page_tables(const PageTables &tables, uint64_t first_page, std::span<uint64_t> words);
    // The next pages of [start, end) that are in memory: how many stretches, and where to go on. As above; ENOTTY or
    // EINVAL: the kernel has no such call (before Linux 6.7).
    ssize_t scan_page_tables(const PageTables &tables, uint64_t &start, uint64_t end, std::span<PageRegion> regions);
    // At most `size` bytes, from `offset` on, of a regular file below the folder `root`, one of our open files:
    // symbolic links and ".." do not lead out of it. Opened as `who` could. As above; ENOENT too when it is no regular
    // file.
    ssize_t read_file(int pid, const Credentials &who, int root, const std::string &path, uint64_t offset, void *into,
                      size_t size);
    // Whether there is a file or a folder there, as `who` can see.
    bool has_file(int pid, const Credentials &who, int root, const std::string &path);
    // In words, for a request that failed with this errno.
    static std::string describe(int error);

    // For as long as this lives, `look` is called before each request, and every 8 ms while one is waited for. It may
    // throw: then that is what comes of the request.
    class Watch {
      public:
        explicit Watch(std::function<void()> look);
        ~Watch();
        Watch(const Watch &) = delete;
        Watch &operator=(const Watch &) = delete;

      private:
        std::function<void()> before_;
    };

  private:
    ReadingChild() = default;
    bool start(int pid);
    void end();
    bool set_file(const Credentials &who, int root, const std::string &path);
    void name_proc_file(int pid, const std::string &name);
    bool wait_for_answer();
    std::chrono::milliseconds patience() const;
    ssize_t ask(int pid);
    ssize_t ask_for_bytes(int pid, void *into, size_t size);
    ssize_t ask_of_tables(Reading operation, const PageTables &tables, uint64_t address, size_t size);

    ReadingExchange *exchange_ = nullptr;
    pid_t child_ = -1;
    size_t left_behind_ = 0;
    std::function<void()> look_;
};

}  // namespace memtrace
