// SPDX-License-Identifier: Apache-2.0
// Reading hostile files with libraries that trust them.
//
// The files of a traced process are its own to forge: they may make their reader loop, use all memory, read beyond it,
// or fault because they are cut short while mapped. So they are read in a child of ours, of which nothing comes back
// but bytes: it is nobody, has no capability and gets none, may use so much memory and time, and is refused all system
// calls but those for memory, for reading what is open or open to everybody, and for answering.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstddef>
#include <functional>
#include <initializer_list>
#include <optional>
#include <string>
#include <vector>

namespace memtrace {

struct SandboxLimits {
    std::chrono::milliseconds time{2000};  // of the clock
    size_t memory_bytes = 256 << 20;
    size_t answer_bytes = 64 << 10;  // what is longer is cut
};

using Work = std::function<std::string()>;

// In a child, runs `open` with our rights, which is to open files of process `pid` (0: nobody's), and then what that
// returned, without any. Gives what this returned; null when it did not get so far: it used up its time or memory, or
// faulted. Such a process is given up (GivenUp::kFiles), so that it can do that but once, and the next has half the
// time, an eighth of it at last. Takes a little more than that at most. The child has no files but those that it opens.
// Null, too, where no child can be started, which why_no_sandbox() tells of. Not thread-safe.
std::optional<std::string> ask_sandbox(int pid, const SandboxLimits &limits, const std::function<Work()> &open);

// Why the last child could not be started, as a clause; empty when it could.
std::string why_no_sandbox();

// For `open`: it may have so many files open, as far as that may be had.
void allow_open_files(size_t count);

// For a child of ours that goes on in this program, as its first step: it gets no signal of ours but SIGKILL, ends with
// us, leaves no core, and has `keep` open and no other file but what it opens. Its output is dropped.
void become_helper(std::vector<int> keep);

// Refuses this thread, for good, all system calls but those for memory, for reading what is open or may be opened to be
// read, for writing what is open, and `more`: they fail with EPERM. False when that cannot be had.
bool refuse_other_calls(std::initializer_list<int> more);

// Ends a child of ours, and says whether it had ended by itself, with exit status 0. One that even SIGKILL does not
// end, because it waits for a file system or a page, is left behind after 100 ms.
bool end_child(pid_t child);

}  // namespace memtrace
