// SPDX-License-Identifier: Apache-2.0
// Reads that may never come back.
//
// A page that is not there is brought by the process's own file system (FUSE) or by itself (userfaultfd), when it
// likes, or never: whoever reads it, root and SIGKILL included, waits until then. So does who opens a file there. So
// memory of processes, and files that they name, are read in a child of ours that can be left behind: it takes one
// request after the other, and shares with us the memory in which they are answered.
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
#include <set>
#include <span>
#include <string>

#include "process/credentials.h"

namespace memtrace {

// Not thread-safe. There is one, which has its child from the first read on.
class ReadingChild {
  public:
    static constexpr size_t kMaxAddresses = 1024;  // UIO_MAXIOV

    static ReadingChild &instance();
    ~ReadingChild();

    // `size` bytes at each of these addresses, at most kMaxAddresses, one after the other: how many bytes could be
    // read, up to the first that could not. -1: none, and errno says why; ETIMEDOUT: the process has been given up.
    ssize_t read_memory(int pid, std::span<const uint64_t> addresses, void *into, size_t size);
    // The first `size` bytes of /proc/PID/NAME, whose content the kernel reads from the process's memory (cmdline). As
    // above.
    ssize_t read_proc_file(int pid, const std::string &name, void *into, size_t size);
    // At most `size` bytes, from `offset` on, of a regular file below the folder `root`, one of our open files:
    // symbolic links and ".." do not lead out of it. Opened as `who` could. As above; ENOENT too when it is no regular
    // file.
    ssize_t read_file(int pid, const Credentials &who, int root, const std::string &path, uint64_t offset, void *into,
                      size_t size);
    // Whether there is a file or a folder there, as `who` can see.
    bool has_file(int pid, const Credentials &who, int root, const std::string &path);
    // The processes that were given up since the beginning.
    const std::set<int> &given_up() const {
        return given_up_;
    }

  private:
    struct Bell;
    enum class Operation;
    struct Exchange;

    ReadingChild() = default;
    bool start(int pid);
    void end();
    bool set_file(const Credentials &who, int root, const std::string &path);
    bool wait_for_answer();
    std::chrono::milliseconds patience() const;
    ssize_t ask(int pid);
    ssize_t ask_for_bytes(int pid, void *into, size_t size);
    [[noreturn]] static void serve(Exchange &exchange);
    static ssize_t answer(Exchange &exchange);

    Exchange *exchange_ = nullptr;
    pid_t child_ = -1;
    size_t left_behind_ = 0;
    std::set<int> given_up_;
};

}  // namespace memtrace
