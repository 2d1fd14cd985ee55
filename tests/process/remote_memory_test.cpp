// SPDX-License-Identifier: Apache-2.0
#include "process/remote_memory.h"

#include <gtest/gtest.h>

namespace memtrace {
namespace {

TEST(RemoteMemory, AddressesAreAsWideAsTheWidestMachines) {
    EXPECT_TRUE(may_be_address(0x400000));
    EXPECT_TRUE(may_be_address(reinterpret_cast<uint64_t>(&may_be_address)));
    EXPECT_TRUE(may_be_address(0xffff9a3c1000));    // aarch64's libraries
    EXPECT_TRUE(may_be_address(0xfffff9a3c1000));   // with 52 bits
    EXPECT_TRUE(may_be_address(0xfffffffffffff0));  // x86-64's with five levels of page tables
    EXPECT_FALSE(may_be_address(0));
    EXPECT_FALSE(may_be_address(4095));
    EXPECT_FALSE(may_be_address(0xffff800000000000));  // the kernel's
    EXPECT_FALSE(may_be_address(~uint64_t{0}));
}

}  // namespace
}  // namespace memtrace
