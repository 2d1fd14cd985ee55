// SPDX-License-Identifier: Apache-2.0
// Tables of lines, in all formats.
#include "fuzz/input.h"
#include "symbolize/code_lines.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    memtrace::Input input(data, size);
    auto format = static_cast<mt_line_format>(input.take<uint8_t>() % 4);
    auto first_line = input.take<int32_t>();
    memtrace::CodeLines lines(format, input.rest(), first_line);
    auto all = lines.all();
    for (int64_t offset = -2; offset < 64; offset++)
        if (auto line = lines.at(offset); line && offset >= 0 && !all.contains(*line))
            abort();
    lines.at(INT64_MAX);
    lines.at(INT64_MIN);
    return 0;
}
