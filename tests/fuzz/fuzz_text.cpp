// SPDX-License-Identifier: Apache-2.0
// Text of a process's, on its way to a person.
#include <cstdlib>

#include "base/printable.h"
#include "fuzz/input.h"
#include "symbolize/python_text.h"
#include "symbolize/source_files.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    using namespace memtrace;
    Input input(data, size);
    unsigned width = input.take<uint8_t>() % 5;
    if (!is_utf8(decode_python_text(input.rest(), width)))
        abort();
    std::string line = printable(input.text());
    if (!is_utf8(line) || printable(line) != line)
        abort();
    if (line.find('\n') != std::string::npos || line.find('\x1b') != std::string::npos)
        abort();
    std::string lines = printable_lines(input.text());
    if (!is_utf8(lines) || printable_lines(lines) != lines)
        abort();
    size_t cut = start_of_character(line, input.take<uint8_t>());
    if (!is_utf8(line.substr(0, cut)))
        abort();
    SourceText source{std::string(input.text())};
    for (int number = -1; number < 200; number++)
        source.line(number);
    return 0;
}
