// SPDX-License-Identifier: Apache-2.0
// Where CPython keeps what we read, by version. A version that is not here is refused: there is no "nearest".
//
// The layouts are made by a compiler (scripts/layout), one file each in layouts/. What an interpreter says of itself
// must agree with its layout: from 3.13 on _Py_DebugOffsets, before that the descriptions of its types' members.
#pragma once

#include <compare>
#include <cstdint>
#include <string>
#include <vector>

#include "memtrace/wire.h"
#include "process/elf_image.h"

namespace memtrace {

struct PythonVersion {
    int major = 0;
    int minor = 0;
    int micro = 0;  // -1: not known

    auto operator<=>(const PythonVersion &) const = default;
    bool is_at_least(int its_major, int its_minor) const {  // whatever the micro version, known or not
        return major > its_major || (major == its_major && minor >= its_minor);
    }
};

// PyTypeObject.tp_members of the type at `symbol` has a member of this name at this offset.
struct MemberCheck {
    std::string symbol;
    std::string name;
    uint64_t offset = 0;
};

// The 8 bytes at `offset` from `symbol` hold this value.
struct WordCheck {
    std::string symbol;
    uint64_t offset = 0;
    uint64_t value = 0;
};

struct PythonLayout {
    PythonVersion version;  // micro is 0: CPython keeps layouts within a minor version
    bool free_threaded = false;
    uint32_t jit_flag = MT_NO_FIELD;    // in an interpreter's state, a bool: code is compiled as it runs
    uint32_t finalizing = MT_NO_FIELD;  // in _PyRuntime, a word that is set when the program has run to its end
    mt_python offsets{};                // state and addresses are 0
    std::vector<MemberCheck> members;
    std::vector<WordCheck> words;
};

const std::vector<PythonLayout> &python_layouts();

// What the interpreter in this file says that contradicts the layout, in a few words; empty when nothing does.
std::string contradiction(const PythonLayout &layout, const ElfImage &image);

}  // namespace memtrace
