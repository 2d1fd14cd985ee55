// SPDX-License-Identifier: Apache-2.0
// Which pages of a process are in memory, from its page tables. Nothing is touched, and nothing is read of the pages.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

namespace memtrace {

// Addresses, of whole pages.
struct PageRange {
    uint64_t start = 0;
    uint64_t end = 0;

    bool operator==(const PageRange &) const = default;
};

// In order of address, as RSS counts them: a page that was read and never written is the kernel's page of zeros, and is
// not among them. (Before Linux 6.7 it is: the kernel does not tell.) Null when the process has gone or is not ours.
std::optional<std::vector<PageRange>> read_present_pages(int pid);
// As before Linux 6.7, by the file that has a word for each page. Mappings of more than 128 GiB are left out: a second each.
std::optional<std::vector<PageRange>> read_present_words(int pid);

}  // namespace memtrace
