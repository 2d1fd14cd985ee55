// SPDX-License-Identifier: Apache-2.0
// How a probe's note says where its arguments are, and what a sandbox says of a file's notes.
#include <elf.h>

#include <cstdlib>

#include "fuzz/input.h"
#include "process/usdt_arguments.h"
#include "process/usdt_probes.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    memtrace::Input input(data, size);
    auto kind = input.take<uint8_t>() % 3;
    if (kind < 2) {
        memtrace::parse_usdt_arguments(input.text(), kind ? EM_AARCH64 : EM_X86_64);
        return 0;
    }
    auto probes = memtrace::parse_usdt_notes(std::string(input.text()), {3, 11, 2});
    for (const char *name : {"line", "gc__start"})
        if (probes && memtrace::probe_refusal(probes, name).empty() &&
            memtrace::find_probe(*probes, name)->locations.empty())
            abort();
    return 0;
}
