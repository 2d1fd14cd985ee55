// SPDX-License-Identifier: Apache-2.0
// Records from the ring buffer: their heads are the BPF programs', and their bodies the process's.
#include "fixtures.h"
#include "fuzz/input.h"
#include "ledger/owned_ranges.h"
#include "symbolize/code_table.h"
#include "symbolize/native_table.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    using namespace memtrace;
    Input input(data, size);
    static const mt_python layout = layout_3_11();
    FakeMemory memory;
    memory.put(0x1000, {data, data + size});
    memory.put_string(0x100000, "name");
    memory.put_bytes(0x200000, one_line_an_instruction(4));
    CodeTable codes;
    NativeTable natives;
    OwnedRanges ranges;
    while (!input.is_over()) {
        auto kind = input.take<uint8_t>() % 5;
        auto record = input.take_bytes(input.take<uint16_t>() % 2048);
        // As the kernel has them: aligned.
        std::vector<uint64_t> aligned((record.size() + 7) / 8);
        if (!record.empty())
            std::memcpy(aligned.data(), record.data(), record.size());
        std::span<const uint8_t> bytes(reinterpret_cast<const uint8_t *>(aligned.data()), record.size());
        if (kind == 0)
            codes.add_code(bytes, layout, memory);
        else if (kind == 1)
            codes.add_stack(bytes);
        else if (kind == 2)
            codes.add_line(bytes);
        else if (kind == 3)
            natives.add(bytes);
        else
            ranges.add(bytes);
        mt_stack_record stack{};
        if (!bytes.empty())
            std::memcpy(&stack, bytes.data(), std::min(bytes.size(), sizeof(stack.record) + sizeof(stack.stack)));
        codes.resolve(stack.record.account, stack.stack);
    }
    return 0;
}
