// SPDX-License-Identifier: Apache-2.0
// The frame walker over threads of every version, recorded by walk_threads --record.
#include "walker.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <random>

#include "image.h"

namespace memtrace {
namespace {

std::vector<std::string> recorded() {
    std::vector<std::string> files;
    for (const auto &entry : std::filesystem::directory_iterator(TESTS_DIR "/walker/images"))
        files.push_back(entry.path());
    std::sort(files.begin(), files.end());
    return files;
}

mt_python runtime_of(const ThreadImage &image) {
    for (const PythonLayout &layout : python_layouts()) {
        if (layout.version != image.version || layout.free_threaded != image.free_threaded)
            continue;
        mt_python python = layout.offsets;
        python.state = MT_PYTHON_READY;
        python.runtime = image.runtime;
        python.code_type = image.code_type;
        python.pthread_specific = 0x310;  // of glibc on x86-64, with which all were recorded
        return python;
    }
    return {};
}

class Walker : public testing::TestWithParam<std::string> {
  protected:
    ThreadImage image = ThreadImage::from_file(GetParam());
    mt_python python = runtime_of(image);
};

TEST_P(Walker, FindsTheStackThatTheInterpreterSaysItHas) {
    SCOPED_TRACE(image.interpreter);
    ASSERT_EQ(python.state, MT_PYTHON_READY);
    ASSERT_GT(image.stack.size(), 5u);
    Walked walked = walk_thread(python, image.self, image);
    EXPECT_EQ(walked.owner, MT_OWNER_STACK);
    EXPECT_EQ(walked.stack, image.stack);
}

TEST_P(Walker, AThreadThatIsNotPythonsHasNoFrame) {
    Walked walked = walk_thread(python, image.self + 64, image);
    EXPECT_EQ(walked.owner, MT_OWNER_NO_FRAME);
}

TEST_P(Walker, MemoryThatIsGoneMakesNoLine) {
    for (const auto &[address, bytes] : image.pieces) {
        ThreadImage without = image;
        without.pieces.erase(address);
        Walked walked = walk_thread(python, image.self, without);
        if (walked.owner == MT_OWNER_STACK)  // a name or table may be unknown then, but not a frame
            EXPECT_EQ(walked.stack.size(), image.stack.size());
        else
            EXPECT_TRUE(walked.stack.empty());
    }
}

// The target is hostile: whatever it holds, the walk ends, in bounds (which the sanitizers see).
TEST_P(Walker, DamagedMemoryIsSurvived) {
    std::mt19937_64 random(1);
    for (int round = 0; round < 300; round++) {
        ThreadImage damaged = image;
        for (int i = 0; i < 1 + round % 20; i++) {
            auto piece = std::next(damaged.pieces.begin(), static_cast<ptrdiff_t>(random() % damaged.pieces.size()));
            size_t at = random() % piece->second.size() & ~size_t{7};
            uint64_t values[] = {random(), 0, UINT64_MAX, image.pieces.begin()->first, image.self, random() & 0xffff};
            uint64_t value = values[random() % std::size(values)];
            for (size_t k = 0; k < 8 && at + k < piece->second.size(); k++)
                piece->second[at + k] = static_cast<uint8_t>(value >> (8 * k));
        }
        Walked walked = walk_thread(python, image.self, damaged);
        EXPECT_LE(walked.stack.size(), size_t{MT_MAX_FRAMES});
    }
}

INSTANTIATE_TEST_SUITE_P(Recorded, Walker, testing::ValuesIn(recorded()), [](const auto &test) {
    std::string name = std::filesystem::path(test.param).stem();
    std::replace_if(
        name.begin(), name.end(), [](char c) { return !isalnum(c); }, '_');
    return name;
});

}  // namespace
}  // namespace memtrace
