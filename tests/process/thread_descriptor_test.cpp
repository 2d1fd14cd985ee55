// SPDX-License-Identifier: Apache-2.0
#include "process/thread_descriptor.h"

#include <elf.h>
#include <gtest/gtest.h>
#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <vector>

#include "process/regular_file.h"

namespace memtrace {
namespace {

constexpr const char *kLibc = "/lib/" MULTIARCH "/libc.so.6";

// Of what the C library here says of itself, this thread is the proof.
void expect_to_be_of_this_thread(const std::optional<ThreadDescriptor> &descriptor) {
    ASSERT_TRUE(descriptor);
    auto self = static_cast<uint64_t>(pthread_self());
    EXPECT_EQ(self + descriptor->pointer_at, reinterpret_cast<uint64_t>(__builtin_thread_pointer()));
    pthread_key_t key;
    ASSERT_EQ(pthread_key_create(&key, nullptr), 0);
    ASSERT_LT(key, 32u);
    ASSERT_EQ(pthread_setspecific(key, &key), 0);
    uint64_t value;
    std::memcpy(&value, reinterpret_cast<void *>(self + descriptor->specific_at + 16 * key + 8), sizeof(value));
    EXPECT_EQ(value, reinterpret_cast<uint64_t>(&key));
    pthread_key_delete(key);
}

TEST(ThreadDescriptor, IsWhatThisThreadHas) {
    auto image = read_elf_image(open_regular_file(kLibc), thread_descriptor_symbols());
    ASSERT_TRUE(image);
    expect_to_be_of_this_thread(read_thread_descriptor(*image));
}

TEST(ThreadDescriptor, IsFoundBesideTheLoader) {
    auto python = read_elf_image(open_regular_file("/usr/bin/python3.11"), {});
    ASSERT_TRUE(python);
    expect_to_be_of_this_thread(read_thread_descriptor_of_loader(python->loader));
    EXPECT_FALSE(read_thread_descriptor_of_loader(""));
    EXPECT_FALSE(read_thread_descriptor_of_loader("/no/such/loader"));
    EXPECT_FALSE(read_thread_descriptor_of_loader("/etc/passwd"));
}

TEST(ThreadDescriptor, IsOnlyInCLibraries) {
    auto image = read_elf_image(open_regular_file("/lib/" MULTIARCH "/libexpat.so.1"), thread_descriptor_symbols());
    ASSERT_TRUE(image);
    EXPECT_FALSE(read_thread_descriptor(*image));
}

// What a C library of aarch64 has at these addresses.
class Aarch64 : public testing::Test {
  protected:
    static constexpr uint64_t kSelf = 0x1000, kSize = 0x1100, kSpecific = 0x1200, kTid = 0x1300;

    Aarch64() {
        image_.machine = EM_AARCH64;
        image_.segments.push_back({0x1000, 0, 0x1000, 0x1000});
        image_.file = FileDescriptor(memfd_create("libc", MFD_CLOEXEC));
        EXPECT_EQ(ftruncate(image_.file.get(), 0x1000), 0);
    }
    void put(const char *symbol, uint64_t address, const std::vector<uint32_t> &words) {
        image_.symbols[symbol] = address;
        auto bytes = words.size() * sizeof(uint32_t);
        EXPECT_EQ(pwrite(image_.file.get(), words.data(), bytes, static_cast<off_t>(address - 0x1000)),
                  static_cast<ssize_t>(bytes));
    }

    ElfImage image_;
};

TEST_F(Aarch64, TheTableForDebuggersTells) {
    put("_thread_db_sizeof_pthread", kSize, {0x740});
    put("_thread_db_pthread_specific", kSpecific, {2048, 1, 0x310});
    put("_thread_db_pthread_tid", kTid, {32, 1, 0xe0});
    auto descriptor = read_thread_descriptor(image_);
    ASSERT_TRUE(descriptor);
    EXPECT_EQ(descriptor->pointer_at, 0x740u);
    EXPECT_EQ(descriptor->specific_at, 0x110u);
    EXPECT_EQ(descriptor->tid_at, 0xe0u);
}

TEST_F(Aarch64, WhereThereIsNoTableTheFunctionTells) {
    put("pthread_self", kSelf, {0xd53bd040, 0xd1032000, 0xd65f03c0});  // musl's
    auto descriptor = read_thread_descriptor(image_);
    ASSERT_TRUE(descriptor);
    EXPECT_EQ(descriptor->pointer_at, 200u);
    EXPECT_EQ(descriptor->tid_at, 0xd0u);
    EXPECT_EQ(descriptor->specific_at, MT_NO_FIELD);
    put("pthread_self", kSelf, {0xd53bd040, 0xd1400400 | 0x40 << 10, 0xd65f03c0});  // of 260 KiB
    EXPECT_FALSE(read_thread_descriptor(image_));
}

TEST_F(Aarch64, WhatDoesNotTellIsNotGuessed) {
    EXPECT_FALSE(read_thread_descriptor(image_));
    put("pthread_self", kSelf, {0, 0, 0});
    EXPECT_FALSE(read_thread_descriptor(image_));
    for (uint32_t size : {0u, 0x10001u, 0xffffffffu}) {
        put("_thread_db_sizeof_pthread", kSize, {size});
        EXPECT_FALSE(read_thread_descriptor(image_)) << size;
    }
    image_.symbols["_thread_db_sizeof_pthread"] = 0x3000;  // where the file has nothing
    EXPECT_FALSE(read_thread_descriptor(image_));
}

TEST_F(Aarch64, ATableThatLiesGivesNoPlaceOfKeys) {
    put("_thread_db_sizeof_pthread", kSize, {0x740});
    for (uint32_t offset : {0u, 511u, 0x10001u, 0xffffffffu}) {
        put("_thread_db_pthread_specific", kSpecific, {2048, 1, offset});
        auto descriptor = read_thread_descriptor(image_);
        ASSERT_TRUE(descriptor);
        EXPECT_EQ(descriptor->specific_at, MT_NO_FIELD) << offset;
    }
}

}  // namespace
}  // namespace memtrace
