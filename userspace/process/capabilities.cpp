// SPDX-License-Identifier: Apache-2.0
#include "process/capabilities.h"

#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdint>

namespace memtrace {

namespace {

struct CapabilitySets {
    uint64_t effective = 0, permitted = 0, inheritable = 0;
};

CapabilitySets get_capabilities() {
    __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
    __user_cap_data_struct halves[_LINUX_CAPABILITY_U32S_3] = {};
    syscall(SYS_capget, &header, halves);
    auto whole = [&](auto member) { return uint64_t{halves[1].*member} << 32 | halves[0].*member; };
    return {whole(&__user_cap_data_struct::effective), whole(&__user_cap_data_struct::permitted),
            whole(&__user_cap_data_struct::inheritable)};
}

bool set_capabilities(const CapabilitySets &sets) {
    __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
    __user_cap_data_struct halves[_LINUX_CAPABILITY_U32S_3];
    for (unsigned i = 0; i < _LINUX_CAPABILITY_U32S_3; i++)
        halves[i] = {static_cast<uint32_t>(sets.effective >> 32 * i), static_cast<uint32_t>(sets.permitted >> 32 * i),
                     static_cast<uint32_t>(sets.inheritable >> 32 * i)};
    return syscall(SYS_capset, &header, halves) == 0;
}

uint64_t set_of(const std::vector<int> &capabilities) {
    uint64_t set = 0;
    for (int capability : capabilities)
        set |= uint64_t{1} << capability;
    return set;
}

}  // namespace

bool keep_capabilities(const std::vector<int> &in_use, const std::vector<int> &at_hand) {
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    CapabilitySets sets = get_capabilities();
    sets.permitted &= set_of(in_use) | set_of(at_hand);
    sets.effective &= set_of(in_use);
    sets.inheritable = 0;
    return set_capabilities(sets) && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0;
}

uint64_t effective_capabilities() {
    return get_capabilities().effective;
}

void set_effective_capabilities(uint64_t set) {
    CapabilitySets sets = get_capabilities();
    sets.effective = set & sets.permitted;
    set_capabilities(sets);
}

RaisedCapabilities::RaisedCapabilities() : before_(effective_capabilities()) {
    set_effective_capabilities(~uint64_t{0});
}

RaisedCapabilities::~RaisedCapabilities() {
    set_effective_capabilities(before_);
}

}  // namespace memtrace
