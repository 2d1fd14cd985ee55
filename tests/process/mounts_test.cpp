// SPDX-License-Identifier: Apache-2.0
#include "process/mounts.h"

#include <gtest/gtest.h>
#include <unistd.h>

namespace memtrace {
namespace {

TEST(Mounts, ALine) {
    auto shared = parse_mount("23 28 0:21 / /dev/shm rw,nosuid shared:4 - tmpfs tmpfs rw,size=64k");
    ASSERT_TRUE(shared);
    EXPECT_EQ(shared->device, 21u);
    EXPECT_EQ(shared->type, "tmpfs");
    EXPECT_EQ(shared->options, "rw,size=64k");
    auto disk =
        parse_mount("25 28 8:1 / /tmpfs\\040-\\040tmpfs rw,relatime master:1 propagate_from:2 - ext4 /dev/sda1 rw");
    ASSERT_TRUE(disk);
    EXPECT_EQ(disk->device, 8u << 20 | 1);
    EXPECT_EQ(disk->type, "ext4");
    for (const char *line : {"", "broken", "27 28 0:32", "27 28 - tmpfs tmpfs rw", " - "})
        EXPECT_FALSE(parse_mount(line)) << line;
}

TEST(Mounts, OfThisProcess) {
    auto proc = mounted_devices(getpid(), [](const Mount &mount) { return mount.type == "proc"; });
    EXPECT_FALSE(proc.empty());
    EXPECT_FALSE(is_served_by_a_user(getpid(), *proc.begin()));
    EXPECT_TRUE(mounted_devices(getpid(), [](const Mount &) { return false; }).empty());
}

}  // namespace
}  // namespace memtrace
