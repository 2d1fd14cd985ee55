// SPDX-License-Identifier: Apache-2.0
// Processes of which nothing more is read, because reading did not come to an end.
#pragma once

#include <cstddef>
#include <set>
#include <string>

namespace memtrace {

// Not thread-safe. There is one.
class GivenUp {
  public:
    enum What {
        kMemory,  // it, or what /proc says of the process, did not come in time
        kFiles,   // that the process maps: time or memory ran out, or the reader faulted
    };

    static GivenUp &instance();

    void add(int pid, What what);  // 0: a file of nobody's, which is but counted
    bool contains(int pid, What what) const;
    bool contains(int pid) const;
    // It has ended: its number may be another's.
    void forget(int pid);
    // How often something was given up since the beginning.
    size_t times(What what) const;
    // A clause that says what holds memtrace up; empty when nothing does.
    std::string why(int pid) const;

  private:
    struct Kind {
        std::set<int> processes;
        size_t times = 0;
    };
    Kind kinds_[2];
};

}  // namespace memtrace
