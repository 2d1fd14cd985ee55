// SPDX-License-Identifier: Apache-2.0
#include "process/python_layouts.h"

#include <fmt/core.h>
#include <pthread.h>

#include <algorithm>

namespace memtrace {

namespace {

// struct PyMemberDef, CPython 2.7 to 3.15: name, type, offset, flags, doc.
constexpr uint64_t kMemberBytes = 40;
constexpr uint64_t kMemberOffset = 16;
constexpr int kMaxMembers = 64;
// offsetof(PyTypeObject, tp_members) of default builds, CPython 2.7 to 3.15.
constexpr uint64_t kTypeMembers = 240;

// What else lies before the two fields that begin with this is the same on every 64-bit machine. pthread_mutex_t is
// not: the GIL has two of them, of 40 bytes each on x86-64, and of 48 on aarch64.
constexpr uint32_t kGilMutexes = 2 * sizeof(pthread_mutex_t);

// The fields of a frame that the BPF programs read, as one piece of memory. What is the process's is not known here.
PythonLayout with_extent(PythonLayout layout) {
    mt_python &offsets = layout.offsets;
    offsets.pthread_specific = MT_NO_FIELD;
    offsets.pthread_tid = MT_NO_FIELD;
    offsets.frame_first = std::min({offsets.frame_code, offsets.frame_previous, offsets.frame_instruction});
    uint32_t last = std::max({offsets.frame_code, offsets.frame_previous, offsets.frame_instruction});
    if (offsets.frame_owner != MT_NO_FIELD)
        last = std::max(last, offsets.frame_owner);
    offsets.frame_bytes = last + 8 - offsets.frame_first;
    return layout;
}

// What a layout does not name is 0.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmissing-field-initializers"
std::vector<PythonLayout> read_layouts() {
    std::vector<PythonLayout> layouts = {
#include "process/layouts/2.7.inc"
        ,
#include "process/layouts/3.6.inc"
        ,
#include "process/layouts/3.7.inc"
        ,
#include "process/layouts/3.8.inc"
        ,
#include "process/layouts/3.9.inc"
        ,
#include "process/layouts/3.10.inc"
        ,
#include "process/layouts/3.11.inc"
        ,
#include "process/layouts/3.12.inc"
        ,
#include "process/layouts/3.13.inc"
        ,
#include "process/layouts/3.13t.inc"
        ,
#include "process/layouts/3.14.inc"
        ,
#include "process/layouts/3.15.inc"
    };
    std::transform(layouts.begin(), layouts.end(), layouts.begin(), with_extent);
    return layouts;
}
#pragma GCC diagnostic pop

// Where the type says that the member is; null when it says nothing of it.
std::optional<uint64_t> member_offset(const ElfImage &image, const std::string &type, const std::string &name) {
    auto symbol = image.symbols.find(type);
    if (symbol == image.symbols.end())
        return std::nullopt;
    auto members = image.read_pointer(symbol->second + kTypeMembers);
    for (int i = 0; members && i < kMaxMembers; i++) {
        uint64_t member = *members + static_cast<uint64_t>(i) * kMemberBytes;
        auto at = image.read_pointer(member);
        if (!at || !*at)
            return std::nullopt;
        if (image.read_text(*at, name.size() + 1) == name + '\0')
            return image.read_value<uint64_t>(member + kMemberOffset);
    }
    return std::nullopt;
}

}  // namespace

const std::vector<PythonLayout> &python_layouts() {
    static const std::vector<PythonLayout> layouts = read_layouts();
    return layouts;
}

std::string contradiction(const PythonLayout &layout, const ElfImage &image) {
    for (const MemberCheck &check : layout.members) {
        auto offset = member_offset(image, check.symbol, check.name);
        if (!offset)
            return fmt::format("{} tells of no member {}", check.symbol, check.name);
        if (*offset != check.offset)
            return fmt::format("{}.{} is at {} and not at {}", check.symbol, check.name, *offset, check.offset);
    }
    for (const WordCheck &check : layout.words) {
        auto symbol = image.symbols.find(check.symbol);
        if (symbol == image.symbols.end())
            return fmt::format("it has no {}", check.symbol);
        auto value = image.read_value<uint64_t>(symbol->second + check.offset);
        if (!value || *value != check.value)
            return fmt::format("{} has {} at {}, and not {}", check.symbol, value.value_or(0), check.offset,
                               check.value);
    }
    return {};
}

}  // namespace memtrace
