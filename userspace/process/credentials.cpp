// SPDX-License-Identifier: Apache-2.0
#include "process/credentials.h"

#include <fmt/core.h>
#include <linux/capability.h>
#include <sys/fsuid.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdlib>
#include <sstream>
#include <string>

#include "process/capabilities.h"
#include "process/proc_files.h"

namespace memtrace {

namespace {

constexpr uint64_t kOverrides = uint64_t{1} << CAP_DAC_OVERRIDE | uint64_t{1} << CAP_DAC_READ_SEARCH;

// Of this thread alone: the C library's would have all threads do it.
int set_groups(size_t count, const gid_t *groups) {
    return static_cast<int>(syscall(SYS_setgroups, count, groups));
}

}  // namespace

std::optional<Credentials> read_credentials(int pid) {
    Credentials found;
    bool has_uid = false;
    bool is_read = for_each_line(pid, "status", [&](std::string_view line) {
        std::istringstream words{std::string(line)};
        std::string name, word;
        words >> name;
        if (name == "Uid:" || name == "Gid:") {
            uint32_t number = 0;
            for (int i = 0; i < 4; i++)  // real, effective, saved, and for files
                words >> number;
            (name == "Uid:" ? found.uid : found.gid) = number;
            has_uid |= name == "Uid:";
        } else if (name == "Groups:") {
            for (gid_t group; found.group_count < found.groups.size() && words >> group;)
                found.groups[found.group_count++] = group;
        } else if (name == "CapEff:" && words >> word) {
            found.overrides = std::strtoull(word.c_str(), nullptr, 16) & kOverrides;
        }
    });
    if (!is_read || !has_uid)
        return std::nullopt;
    return found;
}

ActingAs::ActingAs(const Credentials &credentials)
    : uid_(static_cast<uid_t>(setfsuid(~0u))),
      gid_(static_cast<gid_t>(setfsgid(~0u))),
      effective_(effective_capabilities()) {
    int count = getgroups(static_cast<int>(groups_.size()), groups_.data());
    if (count >= 0 && set_groups(credentials.group_count, credentials.groups.data()) == 0)
        group_count_ = count;
    setfsgid(credentials.gid);
    setfsuid(credentials.uid);
    is_other_ =
        static_cast<uid_t>(setfsuid(~0u)) != credentials.uid || static_cast<gid_t>(setfsgid(~0u)) != credentials.gid;
    if (credentials.overrides && !is_other_)
        return;
    set_effective_capabilities(effective_capabilities() & ~kOverrides);
}

ActingAs::~ActingAs() {
    setfsuid(uid_);
    setfsgid(gid_);
    if (group_count_ >= 0)
        set_groups(static_cast<size_t>(group_count_), groups_.data());
    set_effective_capabilities(effective_);
}

}  // namespace memtrace
