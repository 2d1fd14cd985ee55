// SPDX-License-Identifier: Apache-2.0
#include "explain/huge_page_zeros.h"

#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <string>

#include "process/proc_files.h"

namespace memtrace {

namespace {

constexpr uint64_t kHugePage = 2 << 20;

bool is_zero(const uint8_t *bytes, size_t size) {
    return !bytes[0] && !std::memcmp(bytes, bytes + 1, size - 1);
}

}  // namespace

HugePageZeros::HugePageZeros(const ResidentMemory &resident, const AddressSpace &space)
    : resident_(resident),
      space_(space),
      allowed_(read_whole_file("/sys/kernel/mm/transparent_hugepage/enabled").value_or("[never]").find("[never]") ==
               std::string::npos) {}

bool HugePageZeros::may_be_in(const MappedMemory &part) const {
    return part.huge_page_bytes || (part.huge_pages_advised && part.anonymous_bytes && allowed_);
}

bool HugePageZeros::may_be_in(const AddressRange &range) const {
    auto end = space_.parts().end();
    for (auto part = space_.first_behind(range.start); part != end && part->mapping.start < range.end; ++part)
        if (may_be_in(*part))
            return true;
    return false;
}

uint64_t HugePageZeros::find(const AddressRange &range) {
    auto page = static_cast<uint64_t>(getpagesize());
    std::vector<uint8_t> copy(kHugePage);
    uint64_t sum = 0;
    for (uint64_t at = range.start, end; at < range.end && bytes_left_ >= kHugePage; at = end) {
        end = std::min(range.end, (at / kHugePage + 1) * kHugePage);
        auto present = resident_.copy(at, end, copy.data());
        uint64_t zeros = 0, others = 0;
        for (size_t i = 0; present && i < present->size(); i++)
            if ((*present)[i])
                (is_zero(&copy[i * page], page) ? zeros : others)++;
        bytes_left_ -= std::max<uint64_t>(1, zeros + others) * page;
        bool whole = (zeros + others) * page == end - at;  // a huge page is in memory with all its pages
        if (!zeros || !others || !whole)
            continue;
        found_.push_back({{at, end}, zeros * page});
        sum += zeros * page;
    }
    return sum;
}

uint64_t HugePageZeros::bytes_in(const AddressRange &range) const {
    uint64_t sum = 0;
    for (const auto &[piece, bytes] : found_)
        if (piece.start >= range.start && piece.end <= range.end)
            sum += bytes;
    return sum;
}

bool HugePageZeros::complete() const {
    return bytes_left_ >= kHugePage;
}

}  // namespace memtrace
