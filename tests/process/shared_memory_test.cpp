// SPDX-License-Identifier: Apache-2.0
#include "process/shared_memory.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>

namespace memtrace {

namespace {

// Of this process's mapping at an address.
bool is_shared_memory_at(const void *address) {
    auto at = reinterpret_cast<uint64_t>(address);
    auto mappings = read_mappings(getpid()).value_or(std::vector<Mapping>());
    auto found = std::find_if(mappings.begin(), mappings.end(),
                              [at](const Mapping &mapping) { return mapping.start <= at && at < mapping.end; });
    EXPECT_NE(found, mappings.end());
    return found != mappings.end() && is_shared_memory(*found, read_memory_devices(getpid()));
}

TEST(SharedMemoryTest, AFileThatIsMappedSharedIsAFile) {
    constexpr size_t kSize = 4096;
    int program = open("/proc/self/exe", O_RDONLY);
    void *file = mmap(nullptr, kSize, PROT_READ, MAP_SHARED, program, 0);
    int memory = memfd_create("segment", 0);
    ASSERT_EQ(ftruncate(memory, kSize), 0);
    void *segment = mmap(nullptr, kSize, PROT_READ, MAP_SHARED, memory, 0);
    void *anonymous = mmap(nullptr, kSize, PROT_READ, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    void *own = mmap(nullptr, kSize, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    EXPECT_FALSE(is_shared_memory_at(file));
    EXPECT_TRUE(is_shared_memory_at(segment));
    EXPECT_TRUE(is_shared_memory_at(anonymous));
    EXPECT_FALSE(is_shared_memory_at(own));
    for (void *at : {file, segment, anonymous, own})
        munmap(at, kSize);
    close(program);
    close(memory);
}

}  // namespace

}  // namespace memtrace
