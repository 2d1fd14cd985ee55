// SPDX-License-Identifier: Apache-2.0
// What the kernel prints in /proc, with names that the process chose.
#include "fuzz/input.h"
#include "process/memory_map.h"
#include "process/mounts.h"
#include "process/proc_files.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    using namespace memtrace;
    Input input(data, size);
    for (const Mapping &mapping : parse_mappings(std::string(input.text())))
        if (mapping.end <= mapping.start || mapping.permissions().size() != 4)
            abort();
    int64_t sum = 0;
    for (const MappedMemory &part : parse_memory_map(input.text()).parts)
        sum += part.rss_bytes + part.pss_bytes + part.swap_bytes;
    if (sum < 0 || parse_command_line(input.text()).size() > 257)
        abort();
    parse_mount(input.text());
    return 0;
}
