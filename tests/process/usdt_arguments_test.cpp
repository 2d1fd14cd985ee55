// SPDX-License-Identifier: Apache-2.0
#include "process/usdt_arguments.h"

#include <elf.h>
#include <gtest/gtest.h>

#include <random>
#include <string>

namespace memtrace {
namespace {

using Arguments = std::optional<std::vector<UsdtArgument>>;
constexpr auto kConstant = UsdtArgument::kConstant;
constexpr auto kRegister = UsdtArgument::kRegister;
constexpr auto kMemory = UsdtArgument::kMemory;

Arguments on_x86(std::string_view text) {
    return parse_usdt_arguments(text, EM_X86_64);
}

Arguments on_arm64(std::string_view text) {
    return parse_usdt_arguments(text, EM_AARCH64);
}

// r15 0, r14 8, ..., rbp 32, rbx 40, ..., rax 80, ..., rsp 152.
TEST(UsdtArguments, AsDebiansInterpretersHaveThem) {
    EXPECT_EQ(on_x86("8@%r14 8@%rax -4@%ebp"),
              (Arguments{{{kRegister, false, 8, 0, 8}, {kRegister, false, 8, 0, 80}, {kRegister, true, 4, 0, 32}}}));
    EXPECT_EQ(on_x86("-4@112(%rsp)"), (Arguments{{{kMemory, true, 4, 112, 152}}}));
    EXPECT_EQ(on_x86("-8@$0"), (Arguments{{{kConstant, true, 8, 0, 0}}}));
    EXPECT_EQ(on_x86("8@(%rdi) 1@-20(%rbp) 2@$-5 4@%r9d"), (Arguments{{{kMemory, false, 8, 0, 112},
                                                                       {kMemory, false, 1, -20, 32},
                                                                       {kConstant, false, 2, -5, 0},
                                                                       {kRegister, false, 4, 0, 64}}}));
    EXPECT_EQ(on_x86(""), Arguments{std::vector<UsdtArgument>{}});
}

// x0 0, x1 8, ..., sp 248.
TEST(UsdtArguments, OnTheOtherArchitecture) {
    EXPECT_EQ(on_arm64("8@x19 -4@[sp, 12] 8@[x29] -8@0 4@w3 8@[x1,-8]"), (Arguments{{{kRegister, false, 8, 0, 152},
                                                                                     {kMemory, true, 4, 12, 248},
                                                                                     {kMemory, false, 8, 0, 232},
                                                                                     {kConstant, true, 8, 0, 0},
                                                                                     {kRegister, false, 4, 0, 24},
                                                                                     {kMemory, false, 8, -8, 8}}}));
    for (const char *text : {"8@x31", "8@x", "8@[sp, ]", "8@[sp", "8@[pc, 4]", "8@%rax", "8@x1x", "8@x-1"})
        EXPECT_FALSE(on_arm64(text)) << text;
}

TEST(UsdtArguments, EachRegister) {
    const char *names[] = {"r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10", "r9", "r8",
                           "rax", "rcx", "rdx", "rsi", "rdi", "",    "",    "",    "",   "rsp"};
    for (size_t i = 0; i < std::size(names); i++)
        if (*names[i]) {
            EXPECT_EQ(on_x86(std::string("8@%") + names[i]), (Arguments{{{kRegister, false, 8, 0, int16_t(8 * i)}}}));
        }
    for (const char *name : {"r8d", "r15w", "r10b", "dil", "bpl", "sp", "cl", "esi"})
        EXPECT_TRUE(on_x86(std::string("4@%") + name)) << name;
}

TEST(UsdtArguments, WhatIsNotKnownIsRefused) {
    for (const char *text :
         {"8f@%xmm0",
          "8@8(%rax,%rbx,4)",
          "8@stop(%rip)",
          "8@%rip",
          "3@%rax",
          "0@%rax",
          "-9@%rax",
          "8",
          "8@",
          "@%rax",
          "8@%",
          "8@%rax8@%rbx",
          "8@%rax,8@%rbx",
          "8@$",
          "8@$99999999999999999999",
          "99999999999999999999@%rax",
          "8@%r16",
          "8@%r7",
          "8@%r8x",
          "8@()",
          "8@(%)",
          "8@(%rax",
          "8@12(rax)",
          "8@%RAX",
          "8@%rax\n",
          "-9223372036854775808@%rax",
          "8@%rax 8@%rax 8@%rax 8@%rax 8@%rax 8@%rax 8@%rax 8@%rax 8@%rax 8@%rax 8@%rax 8@%rax 8@%rax"})
        EXPECT_FALSE(on_x86(text)) << text;
    EXPECT_FALSE(parse_usdt_arguments("8@%rax", EM_386));
}

TEST(UsdtArguments, AnythingEnds) {
    std::mt19937 random(38466);
    const std::string alphabet = "0123456789-@%$()[], xrspabdiw\n\xff";
    for (int round = 0; round < 20'000; round++) {
        std::string text(random() % 40, ' ');
        for (char &c : text)
            c = alphabet[random() % alphabet.size()];
        for (const Arguments &found : {on_x86(text), on_arm64(text)})
            for (const UsdtArgument &argument : found.value_or(std::vector<UsdtArgument>{}))
                EXPECT_TRUE(argument.register_at >= 0 && argument.register_at <= 248 && argument.bytes) << text;
    }
}

}  // namespace
}  // namespace memtrace
