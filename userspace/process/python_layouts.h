// SPDX-License-Identifier: Apache-2.0
// Where CPython keeps what we read, by version. A version that is not here is refused: there is no "nearest".
#pragma once

#include <cstdint>
#include <optional>

#include "memtrace/wire.h"

namespace memtrace {

struct PythonVersion {
    int major = 0;
    int minor = 0;
    int micro = 0;

    auto operator<=>(const PythonVersion &) const = default;
};

// The offsets of mt_python filled in; addresses and state are left 0.
std::optional<mt_python> layout_of(const PythonVersion &version);

// What PyTypeObject.tp_basicsize of `code` must be in the live process, so that the layout is believed.
inline constexpr uint64_t kTypeBasicSize = 32;  // offsetof(PyTypeObject, tp_basicsize), CPython 2.7 to 3.15

}  // namespace memtrace
