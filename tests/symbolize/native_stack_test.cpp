// SPDX-License-Identifier: Apache-2.0
#include "symbolize/native_stack.h"

#include <gtest/gtest.h>
#include <ucontext.h>
#include <unistd.h>

#include <cstring>

namespace memtrace {

// What the BPF programs would send of this thread, were it here.
struct SelfRecorder {
    mt_native_record record{};

#if defined(__x86_64__)
    [[gnu::noinline]] int record_this_thread() {
        ucontext_t context;
        getcontext(&context);
        const auto &r = context.uc_mcontext.gregs;
        const int order[] = {REG_R15, REG_R14, REG_R13, REG_R12,    REG_RBP, REG_RBX, REG_R11,
                             REG_R10, REG_R9,  REG_R8,  REG_RAX,    REG_RCX, REG_RDX, REG_RSI,
                             REG_RDI, REG_RAX, REG_RIP, REG_CSGSFS, REG_EFL, REG_RSP};
        for (size_t i = 0; i < std::size(order); i++)
            record.registers[i] = static_cast<uint64_t>(r[order[i]]);
        record.key.stack_pointer = static_cast<uint64_t>(r[REG_RSP]);
        record.key.instruction = static_cast<uint64_t>(r[REG_RIP]);
        record.check_at = MT_NO_FIELD;
        record.stack_bytes = 4096;
        std::memcpy(record.bytes, reinterpret_cast<const void *>(record.key.stack_pointer), record.stack_bytes);
        return static_cast<int>(record.registers[0] & 1);  // no tail call
    }
#endif
};

namespace {

#if defined(__x86_64__) && !defined(MEMTRACE_SANITIZED)  // whose stack is not to be copied

TEST(NativeStackTest, NamesTheInnermostFunctionThatIsNoLibraryRoutine) {
    SelfRecorder self;
    self.record_this_thread();
    auto places = unwind_native_stacks(getpid(), {self.record, self.record});
    ASSERT_EQ(places.size(), 2u);
    ASSERT_TRUE(places[0]);
    EXPECT_EQ(places[0], places[1]);
    EXPECT_TRUE(places[0]->module.ends_with("/memtrace_test")) << places[0]->module;
    // A clone of it is the same function.
    EXPECT_TRUE(places[0]->function.starts_with("memtrace::SelfRecorder::record_this_thread()")) << places[0]->function;
    EXPECT_EQ(places[0]->by, "");
    EXPECT_FALSE(places[0]->return_address_at);
}

#endif

TEST(NativeStackTest, SaysNothingOfAProcessThatHasGone) {
    EXPECT_TRUE(unwind_native_stacks(-1, {mt_native_record{}}).empty());
}

TEST(NativeStackTest, SaysOfGarbageThatItIsInNoFile) {
    mt_native_record record{};
    auto places = unwind_native_stacks(getpid(), {record});
    ASSERT_EQ(places.size(), 1u);
    ASSERT_TRUE(places[0]);
    EXPECT_EQ(places[0]->module, "[anonymous]");
}

TEST(NativeStackTest, KnowsTheRuntimeLibrariesByName) {
    for (const char *path : {"/lib/x86_64-linux-gnu/libc.so.6", "/lib/libc-2.31.so", "/usr/lib/libstdc++.so.6.0.30",
                             "/lib64/ld-linux-x86-64.so.2", "/usr/lib/libjemalloc.so.2"})
        EXPECT_TRUE(is_runtime_library(path)) << path;
    for (const char *path :
         {"/usr/bin/python3.11", "/usr/lib/libcrypto.so.3", "/x/libc.so.d/libfill.so", "[anonymous]"})
        EXPECT_FALSE(is_runtime_library(path)) << path;
}

}  // namespace

}  // namespace memtrace
