// SPDX-License-Identifier: Apache-2.0
#include "explain/references.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>

namespace memtrace {

namespace {

constexpr uint64_t kMaxItems = 1 << 24;     // of one object
constexpr uint64_t kInlineValues = 1 << 2;  // Py_TPFLAGS_INLINE_VALUES, 3.13 and later
constexpr uint64_t kManagedDict = 1 << 4;   // Py_TPFLAGS_MANAGED_DICT, 3.11 and later

class Reader {
  public:
    Reader(const RemoteMemory &memory, const PythonVersion &version, const std::function<void(uint64_t)> &visit,
           std::vector<uint64_t> &blocks, uint64_t &left)
        : memory_(memory), version_(version), visit_(visit), blocks_(blocks), left_(left) {}

    // One pointer of each `step` words, `count` times.
    bool take_pointers(uint64_t address, uint64_t count, size_t step = 1, size_t first = 0) {
        if (count > left_) {
            left_ = 0;
            return false;
        }
        left_ -= count;
        std::array<uint64_t, 768> words;
        while (count) {
            uint64_t rows = std::min<uint64_t>(count, words.size() / step);
            if (!memory_.read(address, words.data(), rows * step * sizeof(uint64_t)))
                return false;
            for (size_t i = first; i < rows * step; i += step)
                if (words[i])
                    visit_(words[i]);
            count -= rows;
            address += rows * step * sizeof(uint64_t);
        }
        return true;
    }

    bool take_list(uint64_t list) {
        uint64_t fields[2];  // ob_size, ob_item
        if (!memory_.read(list + 16, fields, sizeof(fields)))
            return false;
        if (fields[1])
            blocks_.push_back(fields[1]);
        return take_pointers(fields[1], fields[0]);
    }

    bool take_tuple(uint64_t tuple) {
        auto size = memory_.read_value<uint64_t>(tuple + 16);
        return size && take_pointers(tuple + (version_.is_at_least(3, 14) ? 32 : 24), *size);
    }

    bool take_cell(uint64_t cell) {
        return take_pointers(cell + 16, 1);
    }

    bool take_set(uint64_t set) {
        uint64_t fields[4];  // fill, used, mask, table
        if (!memory_.read(set + 16, fields, sizeof(fields)) || fields[2] >= kMaxItems)
            return false;
        // A small set's table is part of it.
        if (fields[3] < set || fields[3] > set + 256)
            blocks_.push_back(fields[3]);
        return take_pointers(fields[3], fields[2] + 1, 2);
    }

    bool take_dict(uint64_t dict) {
        if (version_.major == 2)
            return take_dict_2(dict);
        uint64_t fields[2];  // ma_keys, ma_values
        if (!memory_.read(dict + 32, fields, sizeof(fields)))
            return false;
        auto [keys, values] = fields;
        uint8_t header[40];
        if (!memory_.read(keys, header, sizeof(header)))
            return false;
        auto word = [&header](size_t at) {
            uint64_t value;
            std::memcpy(&value, header + at, sizeof(value));
            return value;
        };
        bool is_old = !version_.is_at_least(3, 11);
        uint64_t entries = 0, used = 0;
        size_t words = 3;  // of an entry: hash, key, value
        if (is_old) {
            uint64_t size = word(8), bytes = size <= 0xff ? 1 : size <= 0xffff ? 2 : size <= 0xffffffff ? 4 : 8;
            used = word(32);
            entries = keys + 40 + size * bytes;
        } else {
            used = word(24);
            entries = keys + 32 + (uint64_t{1} << (header[9] & 63));
            words = header[10] ? 2 : 3;  // keys that are all str have no hash
        }
        if (word(0) == 1)  // dk_refcnt: classes share their instances' keys
            blocks_.push_back(keys);
        if (values)
            return take_values(values, used, false);
        return take_pointers(entries, used, words, words - 1) && (words == 2 || take_pointers(entries, used, 3, 1));
    }

    // The values of an instance's __dict__, whose keys its class has. Their order, and from 3.13 on more, lies beside.
    bool take_values(uint64_t values, uint64_t used, bool is_of_instance) {
        if (version_.is_at_least(3, 13)) {
            uint8_t header[4];  // capacity, size, embedded, valid
            if (!memory_.read(values, header, sizeof(header)))
                return false;
            // Those that are part of the instance are its own references, as long as they are valid.
            if (bool{header[2] != 0} != is_of_instance)
                return true;
            if (!is_of_instance)
                blocks_.push_back(values);
            return is_of_instance && !header[3] ? true : take_pointers(values + 8, header[0]);
        }
        if (version_.is_at_least(3, 11)) {
            auto prefix = memory_.read_value<uint8_t>(values - 1);
            if (!prefix)
                return false;
            blocks_.push_back(values - *prefix);
            // As many as were set: places of keys that this instance lacks are empty, and lie behind.
            if (is_of_instance) {
                auto count = memory_.read_value<uint8_t>(values - 2);
                return count && take_inserted(values, *count);
            }
            return take_pointers(values, used);
        }
        blocks_.push_back(values);
        return take_pointers(values, used);
    }

    // 3.11 and 3.12 keep the places of an instance's values, in the order of insertion, in bytes before them.
    bool take_inserted(uint64_t values, uint8_t count) {
        std::vector<uint8_t> places(count);
        if (count && !memory_.read(values - 2 - count, places.data(), count))
            return false;
        return std::all_of(places.begin(), places.end(),
                           [&](uint8_t place) { return take_pointers(values + 8 * place, 1); });
    }

    bool take_dict_2(uint64_t dict) {
        uint64_t fields[2];  // ma_mask, ma_table
        if (!memory_.read(dict + 32, fields, sizeof(fields)) || fields[0] >= kMaxItems)
            return false;
        if (fields[1] < dict || fields[1] > dict + 280)
            blocks_.push_back(fields[1]);
        return take_pointers(fields[1], fields[0] + 1, 3, 1) && take_pointers(fields[1], fields[0] + 1, 3, 2);
    }

    bool take_instance(const PythonType &type, uint64_t instance) {
        // __slots__, and up to 3.10 the __dict__.
        for (uint32_t at = 16; at + 8 <= type.basic_bytes; at += 8)
            if (at != type.weakrefs_at && !take_pointers(instance + at, 1))
                return false;
        if (!(type.flags & kManagedDict) || !version_.is_at_least(3, 11))
            return true;
        auto dict = memory_.read_value<uint64_t>(instance - 24);
        if (!dict)
            return false;
        if (!version_.is_at_least(3, 12)) {
            auto values = memory_.read_value<uint64_t>(instance - 32);
            if (!values || (*values && !take_values(*values, 0, true)))
                return false;
        } else if (!version_.is_at_least(3, 13)) {
            if (*dict & 1)  // values, less 1
                return take_values(*dict + 1, 0, true);
        } else if (type.flags & kInlineValues && !take_values(instance + type.basic_bytes, 0, true)) {
            return false;
        }
        if (*dict)
            visit_(*dict);
        return true;
    }

  private:
    const RemoteMemory &memory_;
    PythonVersion version_;
    const std::function<void(uint64_t)> &visit_;
    std::vector<uint64_t> &blocks_;
    uint64_t &left_;
};

}  // namespace

bool CachedMemory::read(uint64_t address, void *into, size_t size) const {
    static const auto kPage = static_cast<uint64_t>(getpagesize());
    auto *out = static_cast<uint8_t *>(into);
    if (address + size < address)
        return false;
    while (size) {
        uint64_t number = address / kLineBytes;
        Line &line = lines_[number % kLines];
        if (line.number != number) {
            line.number = number;
            line.bytes.resize(kLineBytes);
            line.present = memory_.copy(number * kLineBytes, (number + 1) * kLineBytes, line.bytes.data())
                               .value_or(std::vector<bool>());
        }
        uint64_t offset = address % kLineBytes;
        size_t part = std::min<uint64_t>(size, kPage - offset % kPage);
        if (offset / kPage >= line.present.size() || !line.present[offset / kPage])
            return false;
        std::memcpy(out, line.bytes.data() + offset, part);
        out += part;
        address += part;
        size -= part;
    }
    return true;
}

bool read_references(const RemoteMemory &memory, const PythonVersion &version, const PythonType &type, uint64_t address,
                     const std::function<void(uint64_t)> &visit, std::vector<uint64_t> &blocks, uint64_t &left) {
    Reader reader(memory, version, visit, blocks, left);
    switch (type.shape) {
        case TypeShape::kList:
            return reader.take_list(address);
        case TypeShape::kTuple:
            return reader.take_tuple(address);
        case TypeShape::kDict:
            return reader.take_dict(address);
        case TypeShape::kSet:
            return reader.take_set(address);
        case TypeShape::kCell:
            return reader.take_cell(address);
        case TypeShape::kInstance:
            return reader.take_instance(type, address);
        case TypeShape::kOther:
            break;
    }
    return false;
}

}  // namespace memtrace
