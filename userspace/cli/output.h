// SPDX-License-Identifier: Apache-2.0
// Where the report goes. Tried before tracing begins, so that a mistake costs nothing.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "base/file_descriptor.h"

namespace memtrace {

// Takes the places of closed standard streams, so that no other file is opened under their numbers. Call first in main.
void guard_standard_streams();

// Who may read a new file.
enum class Readers {
    kAll,    // whom the umask allows
    kOwner,  // nobody but who runs memtrace: it quotes sources and arguments
};

// A file is written beside its place and takes it when it is whole: until then what was there stays. Root is asked to
// write where others may have prepared something, so a link that is neither ours nor root's is not followed, and a pipe
// of somebody else's is not written to.
class Output {
  public:
    // An empty path means `standard_stream` (1 or 2). Throws Failure when there is no such place to write to.
    Output(const std::string &path, int standard_stream, Readers readers = Readers::kAll);
    ~Output();
    Output(const Output &) = delete;
    Output &operator=(const Output &) = delete;

    // Piece by piece, each of whole lines. All of it, or a Failure. Nothing is written that a terminal would obey.
    void append(std::string_view text);
    // After the last piece: from now on it is in its place.
    void finish();
    void write(std::string_view text) {
        append(text);
        finish();
    }

  private:
    void begin();
    void open_beside(const std::string &path, Readers readers);
    bool take_place();

    std::string name_;    // as people know it
    std::string place_;   // that the file is to take; empty: it has it
    std::string beside_;  // its name until then; empty: it has none
    FileDescriptor file_;
    int fd_;
    bool begun_ = false;
    size_t written_ = 0;  // bytes
};

}  // namespace memtrace
