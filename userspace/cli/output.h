// SPDX-License-Identifier: Apache-2.0
// Where the report goes. Opened before tracing begins, so that a mistake costs nothing; an existing file keeps its
// contents until there is a report to replace them.
#pragma once

#include <string>

#include "base/file_descriptor.h"

namespace memtrace {

// Takes the places of closed standard streams, so that no other file is opened under their numbers. Call first in main.
void guard_standard_streams();

class Output {
  public:
    // An empty path means `standard_stream` (1 or 2). Throws Failure when the file cannot be opened for writing.
    Output(const std::string &path, int standard_stream);

    // All of it, or a Failure.
    void write(const std::string &text);

  private:
    std::string name_;
    FileDescriptor file_;
    int fd_;
};

}  // namespace memtrace
