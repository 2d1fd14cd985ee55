// SPDX-License-Identifier: Apache-2.0
// The target's source lines, read from the target's own root and working directory.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/file_descriptor.h"
#include "process/credentials.h"

namespace memtrace {

// A file's text, and where its lines begin: of each 64th, for a file may consist of line ends.
class SourceText {
  public:
    SourceText() = default;
    explicit SourceText(std::string text);

    // Without its end, and cut after 4 KiB; null when there is no such line. Lines count from 1.
    std::optional<std::string> line(int number) const;
    size_t bytes() const {
        return text_.size();
    }

  private:
    std::string text_;
    std::vector<uint32_t> beginnings_;
};

// One process's view of the file system. Opened while the process lives, usable after it has gone.
//
// The target chose the names, and memtrace runs as root: so a file is opened as the process itself could open it, only
// when it is a regular one, never out of the process's root, and where its file system does not hold us for ever
// (process/reading_child.h). Files of more than 16 MiB are not read, nor more than 64 MiB of all processes' together.
//
// Not thread-safe.
class SourceFiles {
  public:
    SourceFiles() = default;  // knows no file
    explicit SourceFiles(int pid);
    ~SourceFiles();
    SourceFiles(const SourceFiles &) = delete;
    SourceFiles &operator=(const SourceFiles &) = delete;

    // Whether anything can be asked: not of a process that had gone.
    bool can_look() const {
        return root_ && who_;
    }
    // Whether there is a file, or a folder, of this name.
    bool exists(const std::string &file) const;
    // The text of a line; null when there is no such line or file, or it may not be read. Lines count from 1.
    std::optional<std::string> line(const std::string &file, int number);

  private:
    // From the root on; empty when it is relative to a folder that is not known.
    std::string full_path(const std::string &file) const;
    SourceText read(const std::string &file) const;

    int pid_ = 0;
    FileDescriptor root_;
    FileDescriptor cwd_;
    std::optional<Credentials> who_;
    std::map<std::string, SourceText> files_;
};

}  // namespace memtrace
