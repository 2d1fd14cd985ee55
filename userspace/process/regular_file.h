// SPDX-License-Identifier: Apache-2.0
// Opening files that others have named.
#pragma once

#include <string>

#include "base/file_descriptor.h"

namespace memtrace {

// For reading, when it is a regular file; else nothing, and errno says why (ENOENT when it is something else). It is
// looked at before it is opened: to open a device or a pipe does something, and may wait.
FileDescriptor open_regular_file(const std::string &path);
// The same of one that was found with O_PATH.
FileDescriptor open_regular_file(const FileDescriptor &found);

}  // namespace memtrace
