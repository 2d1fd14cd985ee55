// SPDX-License-Identifier: Apache-2.0
// Kernels before 6.7 refuse a loop that is entered by falling into its head and closed the same way ("back-edge from insn",
// check_cfg in kernel/bpf/verifier.c; allowed by 10e14e9652bf): only a jump may close one. Which of the two it is,
// clang's order of blocks decides. This finds them in the objects, without such a kernel.
#include <gelf.h>
#include <gtest/gtest.h>
#include <linux/bpf.h>

#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "memtrace/wire.h"

#include "memtrace.skel.h"
#include "memtrace_before_5_12.skel.h"

namespace {

using Code = std::vector<bpf_insn>;

struct Step {
    size_t to;
    bool by_jump;
};

std::vector<Step> next_steps(const Code &code, size_t at) {
    const bpf_insn &insn = code[at];
    int kind = BPF_CLASS(insn.code), operation = BPF_OP(insn.code);
    size_t next = at + (insn.code == (BPF_LD | BPF_IMM | BPF_DW) ? 2 : 1);
    auto target = static_cast<size_t>(static_cast<int64_t>(at) + 1 + insn.off);
    if ((kind != BPF_JMP && kind != BPF_JMP32) || operation == BPF_CALL)
        return {{next, false}};
    if (operation == BPF_EXIT)
        return {};
    if (operation == BPF_JA)
        return {{target, true}};
    return {{next, true}, {target, true}};
}

// The instructions from which control falls back to one that it came from. In the verifier's order: depth first, and what
// follows before what is jumped to.
std::vector<size_t> falls_backwards(const Code &code, size_t first) {
    enum State : uint8_t { kNew, kOnPath, kDone };
    std::vector<State> states(code.size(), kNew);
    struct Visit {
        size_t at;
        size_t taken = 0;
    };
    std::vector<Visit> path = {{first}};
    std::vector<size_t> found;
    states[first] = kOnPath;
    while (!path.empty()) {
        Visit &visit = path.back();
        std::vector<Step> steps = next_steps(code, visit.at);
        if (visit.taken == steps.size()) {
            states[visit.at] = kDone;
            path.pop_back();
            continue;
        }
        Step step = steps[visit.taken++];
        if (step.to >= code.size())
            continue;
        if (states[step.to] == kOnPath && !step.by_jump)
            found.push_back(visit.at);
        if (states[step.to] == kNew) {
            states[step.to] = kOnPath;
            path.push_back({step.to});
        }
    }
    return found;
}

struct Function {
    std::string name;
    Code section;
    size_t first;
};

std::vector<Function> functions_of(const void *object, size_t size) {
    std::vector<Function> functions;
    elf_version(EV_CURRENT);
    std::vector<char> image(size);  // libelf wants to write to it
    std::memcpy(image.data(), object, size);
    std::unique_ptr<Elf, int (*)(Elf *)> elf(elf_memory(image.data(), size), elf_end);
    Elf_Scn *symbols = nullptr;
    GElf_Shdr header{};
    while ((symbols = elf_nextscn(elf.get(), symbols)) && gelf_getshdr(symbols, &header) && header.sh_type != SHT_SYMTAB) {
    }
    Elf_Data *table = symbols ? elf_getdata(symbols, nullptr) : nullptr;
    for (int i = 0; table && i < static_cast<int>(header.sh_size / header.sh_entsize); i++) {
        GElf_Sym symbol{};
        if (!gelf_getsym(table, i, &symbol) || GELF_ST_TYPE(symbol.st_info) != STT_FUNC)
            continue;
        Elf_Data *data = elf_getdata(elf_getscn(elf.get(), symbol.st_shndx), nullptr);
        Code code(data->d_size / sizeof(bpf_insn));
        std::memcpy(code.data(), data->d_buf, code.size() * sizeof(bpf_insn));
        functions.push_back({elf_strptr(elf.get(), header.sh_link, symbol.st_name), std::move(code),
                             symbol.st_value / sizeof(bpf_insn)});
    }
    return functions;
}

void expect_no_falls_backwards(const void *object, size_t size) {
    std::vector<Function> functions = functions_of(object, size);
    ASSERT_GT(functions.size(), 30u);
    for (const Function &function : functions)
        for (size_t at : falls_backwards(function.section, function.first))
            ADD_FAILURE() << function.name << " falls into the head of a loop from instruction " << at - function.first
                          << ": unroll the loop, or move what is before it";
}

constexpr bpf_insn kAdd{.code = BPF_ALU64 | BPF_ADD | BPF_K, .dst_reg = 1, .src_reg = 0, .off = 0, .imm = 1};
constexpr bpf_insn kExit{.code = BPF_JMP | BPF_EXIT, .dst_reg = 0, .src_reg = 0, .off = 0, .imm = 0};

bpf_insn jump_if_large(int16_t offset) {
    return {.code = BPF_JMP | BPF_JGT | BPF_K, .dst_reg = 1, .src_reg = 0, .off = offset, .imm = 10};
}

bpf_insn jump(int16_t offset) {
    return {.code = BPF_JMP | BPF_JA, .dst_reg = 0, .src_reg = 0, .off = offset, .imm = 0};
}

TEST(Loops, OneThatIsClosedByAJumpIsNoFall) {
    EXPECT_TRUE(falls_backwards({kAdd, jump_if_large(1), jump(-3), kExit}, 0).empty());
}

TEST(Loops, OneThatIsClosedByFallingIsFound) {
    // 0: to the test at 2; 1: the body, which falls into 2; 2: out to 4, or 3: back to the body.
    EXPECT_EQ(falls_backwards({jump(1), kAdd, jump_if_large(1), jump(-3), kExit}, 0), std::vector<size_t>{1});
}

TEST(Loops, ProgramsHaveNoneThatOldKernelsRefuse) {
    size_t size = 0;
    const void *object = memtrace_bpf__elf_bytes(&size);
    expect_no_falls_backwards(object, size);
    object = memtrace_before_5_12_bpf__elf_bytes(&size);
    expect_no_falls_backwards(object, size);
}

}  // namespace
