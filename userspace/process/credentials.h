// SPDX-License-Identifier: Apache-2.0
// What a process may read of the file system: whoever reads for it, with more rights, shall read no more than that.
#pragma once

#include <sys/types.h>

#include <array>
#include <cstdint>
#include <optional>

namespace memtrace {

// Of plain values, so that it can be handed to a child in shared memory.
struct Credentials {
    uid_t uid = 0;  // for files (setfsuid)
    gid_t gid = 0;
    uint32_t group_count = 0;
    std::array<gid_t, 64> groups{};  // the first of them: who is in more, may read less here than it could
    bool overrides = false;          // CAP_DAC_OVERRIDE or CAP_DAC_READ_SEARCH: modes of files do not matter to it
};

// From /proc/PID/status, as this process's user namespace has them. Null when the process has gone.
std::optional<Credentials> read_credentials(int pid);

// While it lives, this thread opens files as another process could. Who is not root cannot become somebody else: it
// opens them with no capability, as its own user could, and is_other() says that this is somebody else.
class ActingAs {
  public:
    explicit ActingAs(const Credentials &credentials);
    ~ActingAs();
    ActingAs(const ActingAs &) = delete;
    ActingAs &operator=(const ActingAs &) = delete;

    bool is_other() const {
        return is_other_;
    }

  private:
    uid_t uid_;
    gid_t gid_;
    int group_count_ = -1;  // -1: they were not changed
    std::array<gid_t, 256> groups_;
    uint64_t effective_;  // capabilities
    bool is_other_ = false;
};

}  // namespace memtrace
