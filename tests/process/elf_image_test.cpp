// SPDX-License-Identifier: Apache-2.0
#include "process/elf_image.h"

#include <gtest/gtest.h>

#include "process/python_layouts.h"

namespace memtrace {
namespace {

TEST(ElfImage, FindsDebiansInterpreter) {
    auto image = read_elf_image("/usr/bin/python3.11", {"_PyRuntime", "Py_Version", "PyCode_Type", "no_such_symbol"});
    ASSERT_TRUE(image);
    EXPECT_EQ(image->symbols.size(), 3u);
    EXPECT_EQ(image->symbols.at("Py_Version").value_at<uint32_t>(0) >> 16, 0x030bu);
    // What the live check compares: PyCode_Type.tp_basicsize is where the instructions begin.
    EXPECT_EQ(image->symbols.at("PyCode_Type").value_at<uint64_t>(kTypeBasicSize),
              layout_of({3, 11, 2})->code_instructions);
    EXPECT_LT(image->text_start, image->text_end);
}

TEST(ElfImage, RefusesWhatIsNoElfFile) {
    EXPECT_FALSE(read_elf_image("/etc/passwd", {}));
    EXPECT_FALSE(read_elf_image("/no/such/file", {}));
    EXPECT_FALSE(read_elf_image("/dev/null", {}));
}

TEST(PythonLayouts, UnknownVersionsAreRefused) {
    EXPECT_TRUE(layout_of({3, 11, 0}));
    EXPECT_FALSE(layout_of({3, 99, 0}));
    EXPECT_FALSE(layout_of({0, 0, -1}));
}

}  // namespace
}  // namespace memtrace
