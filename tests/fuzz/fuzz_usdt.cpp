// SPDX-License-Identifier: Apache-2.0
// How a probe's note says where its arguments are.
#include <elf.h>

#include "fuzz/input.h"
#include "process/usdt_arguments.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    memtrace::Input input(data, size);
    auto machine = static_cast<uint16_t>(input.take<uint8_t>() % 2 ? EM_AARCH64 : EM_X86_64);
    memtrace::parse_usdt_arguments(input.text(), machine);
    return 0;
}
