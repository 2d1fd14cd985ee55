// SPDX-License-Identifier: Apache-2.0
// Reading hostile files with libraries that trust them.
//
// The files of a traced process are its own to forge: they may make their reader loop, use all memory, read beyond it,
// or fault because they are cut short while mapped. So they are read in a child of ours with limits, of which nothing
// comes back but text.
#pragma once

#include <sys/types.h>

#include <functional>
#include <string>
#include <vector>

namespace memtrace {

struct ChildLimits {
    unsigned seconds = 2;
    size_t memory_bytes = 256 << 20;
    size_t answer_bytes = 64 << 10;  // what is longer is cut
};

// Runs `answer` in a child and gives what it returned; empty when it did not get so far. Takes a little more than
// limits.seconds at most. The child has `keep` open and
// no other file; what it prints to stderr is dropped.
std::string ask_limited_child(const ChildLimits &limits, const std::vector<int> &keep,
                              const std::function<std::string()> &answer);

// Ends a child of ours. One that even SIGKILL does not end, because it waits for a file system or a page, is left
// behind after 100 ms.
void end_child(pid_t child);

// For a child of ours that goes on in this program, as its first step: it gets no signal of ours but SIGKILL, ends with
// us, leaves no core, and has `keep` open and no other file but what it opens. Its stderr is dropped.
void become_helper(std::vector<int> keep);

// For a child that has opened what it needs: from here on it is nobody, with no capability.
void give_up_privileges();

}  // namespace memtrace
