// SPDX-License-Identifier: Apache-2.0
#include "process/elf_image.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "process/python_layouts.h"

#include "process/regular_file.h"

namespace memtrace {
namespace {

TEST(ElfImage, FindsDebiansInterpreter) {
    auto image = read_elf_image(open_regular_file("/usr/bin/python3.11"), {"_PyRuntime", "Py_Version", "PyCode_Type", "no_such_symbol"});
    ASSERT_TRUE(image);
    EXPECT_EQ(image->symbols.size(), 3u);
    EXPECT_EQ(image->read_value<uint32_t>(image->symbols.at("Py_Version")).value_or(0) >> 16, 0x030bu);
    EXPECT_LT(image->text_start, image->text_end);
    EXPECT_FALSE(image->read_value<uint64_t>(0));
    EXPECT_FALSE(image->read_value<uint64_t>(UINT64_MAX - 3));
}

// A shared library's pointers are in its relocations, and not in its data.
TEST(ElfImage, ReadsPointersOfSharedLibraries) {
    auto image = read_elf_image(open_regular_file("/lib/" MULTIARCH "/libexpat.so.1"), {"XML_ErrorString", "XML_ParserCreate"});
    ASSERT_TRUE(image);
    EXPECT_TRUE(image->position_independent);
    ASSERT_FALSE(image->pointers.empty());
    // The first relocations are of .init_array, which holds functions.
    uint64_t function = image->read_pointer(image->pointers.begin()->first).value_or(0);
    EXPECT_GE(function, image->text_start);
    EXPECT_LT(function, image->text_end);
}

TEST(ElfImage, RefusesWhatIsNoElfFile) {
    EXPECT_FALSE(read_elf_image(open_regular_file("/etc/passwd"), {}));
    EXPECT_FALSE(read_elf_image(open_regular_file("/no/such/file"), {}));
    EXPECT_FALSE(read_elf_image(open_regular_file("/dev/null"), {}));
}

TEST(PythonLayouts, AllFieldsOfAFrameAreInItsExtent) {
    for (const PythonLayout &layout : python_layouts()) {
        const mt_python &offsets = layout.offsets;
        for (uint32_t field : {offsets.frame_code, offsets.frame_previous, offsets.frame_instruction}) {
            EXPECT_GE(field, offsets.frame_first);
            EXPECT_LE(field + 8, offsets.frame_first + offsets.frame_bytes);
        }
        EXPECT_LE(offsets.frame_bytes, 128u);  // bpf/lib/walk.h
        EXPECT_GT(offsets.thread_id, offsets.thread_frame);
        EXPECT_LE(offsets.thread_id - offsets.thread_frame, 160u);  // bpf/lib/thread_state.h
        EXPECT_FALSE(layout.members.empty() && layout.words.empty());
    }
}

TEST(PythonLayouts, EveryNumberCheckedCanContradict) {
    auto image = read_elf_image(open_regular_file("/usr/bin/python3.11"), {"PyCode_Type"});
    ASSERT_TRUE(image);
    const auto &known = python_layouts();
    auto right = std::find_if(known.begin(), known.end(), [](const auto &layout) {
        return layout.version == PythonVersion{3, 11, 0};
    });
    ASSERT_NE(right, known.end());
    EXPECT_EQ(contradiction(*right, *image), "");
    for (size_t i = 0; i < right->members.size(); i++) {
        PythonLayout wrong = *right;
        wrong.members[i].offset += 8;
        EXPECT_NE(contradiction(wrong, *image), "");
        wrong = *right;
        wrong.members[i].name += "_";
        EXPECT_NE(contradiction(wrong, *image), "");
    }
    for (size_t i = 0; i < right->words.size(); i++) {
        PythonLayout wrong = *right;
        wrong.words[i].value += 8;
        EXPECT_NE(contradiction(wrong, *image), "");
    }
    for (const PythonLayout &layout : known)
        EXPECT_EQ(contradiction(layout, *image).empty(), &layout == &*right);
}

}  // namespace
}  // namespace memtrace
