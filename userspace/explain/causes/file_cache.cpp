// SPDX-License-Identifier: Apache-2.0
// Files that are mapped: programs and libraries, and what the program maps itself, by one process or several.
#include <fmt/format.h>

#include <algorithm>

#include "base/counted.h"
#include "explain/causes/causes.h"
#include "explain/causes/figures.h"
#include "explain/explain.h"

namespace memtrace {

namespace {

// Of libc.so.6, and of a library that was replaced while it is mapped: its code may not be in memory.
bool is_named_as_a_library(const std::string &path) {
    std::string name = path.substr(path.rfind('/') + 1);
    size_t at = name.find(".so");
    return at != std::string::npos && (at + 3 == name.size() || name[at + 3] == '.' || name[at + 3] == ' ');
}

// A file of data that the program maps, and so can unmap. (What the C library maps itself is small.)
bool is_data(const MappedFile &file) {
    return !file.has_code && !is_named_as_a_library(file.path) && file.resident_bytes >= 1 << 20;
}

// What becomes of the files, of which so many are deleted already, once they are not mapped.
std::string what_stays(uint64_t files, uint64_t deleted) {
    if (!deleted)
        return files == 1 ? "the file stays on disk as it is" : "they stay on disk as they are";
    if (deleted == files)
        return files == 1 ? "it is deleted, and what is in it is gone then"
                          : "they are deleted, and what is in them is gone then";
    return fmt::format("they stay on disk as they are, but for {} that {} deleted", deleted,
                       deleted == 1 ? "is" : "are");
}

}  // namespace

void file_cache(const Explanation &explanation, std::vector<Finding> &findings) {
    constexpr size_t kMostFiles = 5;
    int64_t changed = explanation.layer("file_private");
    Finding finding{.cause = "file_cache", .bytes = explanation.layer("file_mappings") + changed};
    finding.summary =
        "These are pages of files: programs, libraries, and files that the program maps. The kernel drops them when "
        "memory is short, and reads them again, but for those that the process has changed for itself.";
    nlohmann::ordered_json files = nlohmann::ordered_json::array();
    uint64_t data_files = 0, deleted = 0;
    std::string name;  // of the largest
    int64_t data = 0, data_changed = 0;
    for (const MappedFile &file : explanation.files) {
        if (is_data(file)) {
            if (!data_files++)
                name = file.path;
            deleted += file.path.ends_with(" (deleted)");
            data += file.resident_bytes;
            data_changed += file.changed_bytes;
        }
        if (files.size() == kMostFiles)
            continue;
        files.push_back({{"path", file.path}, {"resident_bytes", file.resident_bytes}});
        finding.evidence.push_back(
            fmt::format("{} of {}.", in_mib(static_cast<uint64_t>(file.resident_bytes)), file.path));
    }
    if (changed > 0)
        finding.evidence.push_back(
            fmt::format("{} of it are the process's own: pages of private mappings that it has written to, which the "
                        "kernel cannot drop.",
                        in_mib(static_cast<uint64_t>(changed))));
    finding.figures = figures({{"files", files}, {"changed_bytes", changed}, {"data_files", data_files}});
    finding.remedies = {{"none is needed for what is not changed: the kernel drops it when memory is short", 0}};
    if (data_files)
        finding.remedies.push_back(
            {fmt::format("close the mapping of {} (mmap.close(), munmap): {}{}",
                         data_files == 1 ? name : counted(data_files, "data file"), what_stays(data_files, deleted),
                         data_changed ? ", without what was changed in private mappings" : ""),
             data});
    findings.push_back(std::move(finding));
}

}  // namespace memtrace
