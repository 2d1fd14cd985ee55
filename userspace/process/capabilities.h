// SPDX-License-Identifier: Apache-2.0
// What of root's rights this process still has.
#pragma once

#include <cstdint>
#include <vector>

namespace memtrace {

// Gives up, for good, all capabilities but these, as far as it has them: `in_use` stay in effect, and `at_hand` may be
// had by a RaisedCapabilities. Numbers as in linux/capability.h. Of the calling thread, and of what it will start.
// False when the kernel refuses.
bool keep_capabilities(const std::vector<int> &in_use, const std::vector<int> &at_hand = {});

// Those in effect for the calling thread, a bit each.
uint64_t effective_capabilities();
// As far as it has kept them.
void set_effective_capabilities(uint64_t set);

// While it lives, all that were kept are in effect.
class RaisedCapabilities {
  public:
    RaisedCapabilities();
    ~RaisedCapabilities();
    RaisedCapabilities(const RaisedCapabilities &) = delete;
    RaisedCapabilities &operator=(const RaisedCapabilities &) = delete;

  private:
    uint64_t before_;
};

}  // namespace memtrace
