// SPDX-License-Identifier: Apache-2.0
#include "process/usdt_probes.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <random>

#include "process/proc_files.h"

namespace memtrace {
namespace {

// "None" and "cannot be read" are one here.
std::vector<UsdtProbe> find_usdt_probes(const std::string &elf_path, const PythonVersion &version) {
    return read_usdt_probes(elf_path, version).value_or(std::vector<UsdtProbe>{});
}

constexpr const char *kDebiansPython = "/usr/bin/python3.11";

// A copy of Debian's interpreter that a test may spoil.
class SpoiledPython {
  public:
    SpoiledPython() : contents(*read_whole_file(kDebiansPython, 64 << 20)) {}
    ~SpoiledPython() {
        std::filesystem::remove(path_);
    }
    const std::string &save() {
        std::ofstream(path_, std::ios::binary) << contents;
        return path_;
    }
    // Where the note of this probe has its strings: "python", its name, its arguments, each with a NUL.
    size_t strings_of(const std::string &probe) const {
        return contents.find(std::string("python\0", 7) + probe + '\0');
    }

    size_t first_note() const {
        return contents.find(kNote);
    }
    size_t last_note() const {
        return contents.rfind(kNote);
    }

    std::string contents;

  private:
    const std::string kNote{"\3\0\0\0stapsdt\0", 12};  // its type and owner
    std::string path_ = testing::TempDir() + "memtrace_spoiled_" + std::to_string(getpid());
};

std::vector<std::string> names(const std::vector<UsdtProbe> &probes) {
    std::vector<std::string> names;
    for (const UsdtProbe &probe : probes)
        names.push_back(probe.name);
    return names;
}

TEST(UsdtProbes, DebiansPythonHasEight) {
    auto probes = find_usdt_probes(kDebiansPython, {3, 11, 2});
    EXPECT_EQ(names(probes),
              (std::vector<std::string>{"audit", "function__entry", "function__return", "gc__done", "gc__start",
                                        "import__find__load__done", "import__find__load__start", "line"}));
    for (const UsdtProbe &probe : probes) {
        EXPECT_GE(probe.locations.size(), 1u) << probe.name;
        EXPECT_TRUE(probe.has_semaphore) << probe.name;
        EXPECT_EQ(probe.refusal, "") << probe.name;
        EXPECT_EQ(probe.note.empty(), probe.name != "function__entry") << probe.name;
    }
    EXPECT_EQ(find_probe(probes, "line"), &probes.back());
    EXPECT_EQ(find_probe(probes, "lin"), nullptr);
}

TEST(UsdtProbes, EachPlaceIsANoOpWithASemaphoreAndArguments) {
    SpoiledPython python;
    for (const UsdtProbe &probe : find_usdt_probes(kDebiansPython, {3, 11, 2}))
        for (const UsdtLocation &location : probe.locations) {
            EXPECT_EQ(static_cast<uint8_t>(python.contents.at(location.offset)), 0x90) << probe.name;
            // Nobody listens to a file.
            EXPECT_EQ(python.contents.substr(location.semaphore_offset, 2), std::string(2, '\0')) << probe.name;
            ASSERT_TRUE(location.arguments) << probe.name;
            EXPECT_FALSE(location.arguments->empty()) << probe.name;
        }
}

// The note has three addresses before its strings: the place's, one that does not matter here, and the semaphore's.
TEST(UsdtProbes, ANoteThatNamesAnotherPlaceIsRefused) {
    for (size_t before : {24, 8}) {
        SpoiledPython python;
        python.contents[python.strings_of("gc__start") - before + 6] = 1;
        auto probes = find_usdt_probes(python.save(), {3, 11, 2});
        EXPECT_NE(probe_refusal(probes, "gc__start"), "");
        EXPECT_EQ(probe_refusal(probes, "gc__done"), "");
    }
    SpoiledPython python;
    python.contents[python.strings_of("gc__start") - 24] ^= 1;  // in the middle of an instruction, or at another
    EXPECT_NE(probe_refusal(find_usdt_probes(python.save(), {3, 11, 2}), "gc__start"), "");
}

TEST(UsdtProbes, VersionsDecideWhatMayBeUsed) {
    struct Case {
        PythonVersion version;
        const char *probe;
        bool refused;
        bool noted;
    };
    for (auto [version, name, refused, noted] : {
             Case{{3, 9, 2}, "line", false, false},
             Case{{3, 9, 2}, "function__entry", false, false},
             Case{{3, 11, 0}, "line", true, false},
             Case{{3, 11, 1}, "line", true, false},
             Case{{3, 11, 2}, "line", false, false},
             Case{{3, 11, -1}, "line", false, true},
             Case{{3, 11, 0}, "function__entry", false, true},
             Case{{3, 11, 0}, "gc__start", false, false},
             Case{{3, 12, 0}, "line", true, false},
             Case{{3, 15, -1}, "line", true, false},
             Case{{3, 12, 0}, "function__return", true, false},
             Case{{3, 14, -1}, "function__entry", true, false},
             Case{{3, 15, 2}, "function__entry", false, true},
             Case{{0, 0, -1}, "line", true, false},
             Case{{0, 0, -1}, "audit", false, false},
         }) {
        auto probes = find_usdt_probes(kDebiansPython, version);
        const UsdtProbe *probe = find_probe(probes, name);
        ASSERT_TRUE(probe);
        EXPECT_EQ(!probe->refusal.empty(), refused) << version.minor << "." << version.micro << " " << name;
        EXPECT_EQ(!probe->note.empty(), noted) << version.minor << "." << version.micro << " " << name;
    }
}

TEST(UsdtProbes, AFileWithoutProbesHasNone) {
    auto probes = read_usdt_probes("/bin/true", {3, 11, 2});
    ASSERT_TRUE(probes);
    EXPECT_TRUE(probes->empty());
}

TEST(UsdtProbes, WhatCannotBeReadIsNotKnown) {
    for (const char *path : {"/no/such/file", "/etc/passwd", "/dev/zero", "/tmp", ""}) {
        EXPECT_FALSE(read_usdt_probes(path, {3, 11, 2})) << path;
        EXPECT_TRUE(find_usdt_probes(path, {3, 11, 2}).empty()) << path;
    }
}

TEST(UsdtProbes, SeveralNotesAreSeveralLocations) {
    SpoiledPython python;
    // gc__done's note becomes a second one of audit, of the same length.
    size_t at = python.strings_of("gc__done");
    ASSERT_NE(at, std::string::npos);
    at += strlen("python") + 1;
    size_t name_length = strlen("gc__done"), arguments_length = strlen(python.contents.c_str() + at + name_length + 1);
    std::string instead = std::string(
        "audit\0"
        "8@%rax",
        12);
    instead.resize(name_length + 1 + arguments_length, ' ');
    python.contents.replace(at, instead.size(), instead);
    auto probes = find_usdt_probes(python.save(), {3, 11, 2});
    EXPECT_EQ(probes.size(), 7u);
    ASSERT_TRUE(find_probe(probes, "audit"));
    EXPECT_EQ(find_probe(probes, "audit")->locations.size(), 2u);
}

// BCC would read beyond the end of what it has of the file.
TEST(UsdtProbes, ALastNoteWithoutEndIsSurvived) {
    for (const char *arguments : {"8@", "8@%", "-", "$"}) {
        SpoiledPython python;
        size_t at = python.last_note() + 12 + 24;  // type and owner, three addresses, then strings
        at += strlen(python.contents.c_str() + at) + 1;
        at += strlen(python.contents.c_str() + at) + 1;
        size_t length = strlen(python.contents.c_str() + at);
        std::string instead(length, 'x');
        instead.replace(length - strlen(arguments), strlen(arguments), arguments);
        python.contents.replace(at, length, instead);
        find_usdt_probes(python.save(), {3, 11, 2});
        python.contents.replace(at, length + 4, length + 4, 'x');
        find_usdt_probes(python.save(), {3, 11, 2});
    }
}

// Whatever stands in a file, reading it ends, and leaves us whole.
TEST(UsdtProbes, HostileFilesAreSurvived) {
    SpoiledPython whole;
    size_t notes = whole.first_note(), last = whole.last_note();
    ASSERT_LT(notes, last);
    std::mt19937 random(98894);
    for (int round = 0; round < 60; round++) {
        SpoiledPython python;
        auto byte = [&](size_t from, size_t to) -> char & {
            return python.contents[std::uniform_int_distribution<size_t>(from, to - 1)(random)];
        };
        switch (round % 4) {
            case 0:  // the notes
                for (int i = 0; i < 1 << (round / 4 % 8); i++)
                    byte(notes - 8, last + 80) = static_cast<char>(random());
                break;
            case 1:  // strings without ends
                for (size_t i = notes; i < last + 80; i++)
                    if (python.contents[i] == '\0' && random() % 3 == 0)
                        python.contents[i] = 'x';
                break;
            case 2:  // the headers
                for (int i = 0; i < 4; i++)
                    byte(16, 64) = static_cast<char>(random());
                break;
            case 3:  // a file that ends early
                python.contents.resize(std::uniform_int_distribution<size_t>(0, python.contents.size())(random));
                break;
        }
        for (const UsdtProbe &probe : find_usdt_probes(python.save(), {3, 11, 2}))
            EXPECT_GE(probe.locations.size(), 1u);
    }
}

}  // namespace
}  // namespace memtrace
