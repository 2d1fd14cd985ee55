// SPDX-License-Identifier: Apache-2.0
#include "process/short_functions.h"

#include <elf.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <optional>
#include <vector>

namespace memtrace {
namespace {

constexpr uint64_t kFunction = 0x66394;  // where Debian 11's python2.7 for arm64 has PyInterpreterState_Head

// A file whose code is this, from kFunction to its end.
ElfImage image_of(uint16_t machine, const void *code, size_t bytes) {
    ElfImage image;
    image.machine = machine;
    image.segments.push_back({kFunction, 0, bytes, bytes});
    image.file = FileDescriptor(memfd_create("code", MFD_CLOEXEC));
    EXPECT_EQ(write(image.file.get(), code, bytes), static_cast<ssize_t>(bytes));
    return image;
}

ElfImage aarch64(const std::vector<uint32_t> &code) {
    return image_of(EM_AARCH64, code.data(), code.size() * sizeof(uint32_t));
}

std::optional<uint64_t> variable(const std::vector<uint32_t> &code) {
    return read_returned_variable(aarch64(code), kFunction);
}

std::optional<uint32_t> distance(const std::vector<uint32_t> &code) {
    return read_distance_to_thread_pointer(aarch64(code), kFunction);
}

constexpr uint32_t kLandingPad = 0xd503245f, kReturn = 0xd65f03c0, kReadThreadPointer = 0xd53bd040;

TEST(ShortFunctions, TheVariableThatAarch64Returns) {
    EXPECT_EQ(variable({0x90001740, 0xf943d800, kReturn}), 0x34e7b0u);
    EXPECT_EQ(variable({kLandingPad, 0x90001740, 0xf943d800, kReturn}), 0x34e7b0u);
    EXPECT_EQ(variable({0xb0ffffe0, 0xf9400000, kReturn}), 0x63000u);  // three pages before
    EXPECT_FALSE(variable({0x90001740, 0xf943d800}));                  // ends before it returns
    EXPECT_FALSE(variable({0x90001741, 0xf943d800, kReturn}));         // another register's page
    EXPECT_FALSE(variable({0x90001740, 0xf943d801, kReturn}));         // into another register
    EXPECT_FALSE(variable({0x90001740, 0xb943d800, kReturn}));         // half a word
    EXPECT_FALSE(variable({0x10001740, 0xf943d800, kReturn}));         // adr
    EXPECT_FALSE(variable({}));
}

TEST(ShortFunctions, TheVariableThatX86Returns) {
    const char code[] = "\xf3\x0f\x1e\xfa\x48\x8b\x05\x10\x00\x00\x00\xc3";
    EXPECT_EQ(read_returned_variable(image_of(EM_X86_64, code, sizeof(code) - 1), kFunction), kFunction + 11 + 16);
    EXPECT_FALSE(read_returned_variable(image_of(EM_X86_64, code, 10), kFunction));
    EXPECT_FALSE(read_returned_variable(image_of(EM_RISCV, code, sizeof(code) - 1), kFunction));
}

// As compiled in glibc 2.31 and 2.36, in 2.41, and in musl 1.2.
TEST(ShortFunctions, WherePthreadSelfPoints) {
    EXPECT_EQ(distance({kReadThreadPointer, 0xd11c0000, kReturn}), 0x700u);
    EXPECT_EQ(distance({kReadThreadPointer, 0xd11d0000, kReturn}), 0x740u);
    EXPECT_EQ(distance({kLandingPad, kReadThreadPointer, 0xd11c8000, kReturn}), 0x720u);
    EXPECT_EQ(distance({kReadThreadPointer, 0xd1032000, kReturn}), 0xc8u);
    // sub x0, x0, #1, lsl #12; sub x0, x0, #0x20
    EXPECT_EQ(distance({kReadThreadPointer, 0xd1400400, 0xd1008000, kReturn}), 0x1020u);
    EXPECT_FALSE(distance({kReadThreadPointer, 0xd11c0000}));           // ends before it returns
    EXPECT_FALSE(distance({kReadThreadPointer, 0xd11c0020, kReturn}));  // subtracts from another register
    EXPECT_FALSE(distance({kReadThreadPointer, 0x911c0000, kReturn}));  // adds
    EXPECT_FALSE(distance({0xd53bd041, 0xd11c0000, kReturn}));          // reads into another register
    EXPECT_FALSE(distance({0xd11d0000, kReadThreadPointer, kReturn}));
    EXPECT_FALSE(distance({}));
}

}  // namespace
}  // namespace memtrace
