// SPDX-License-Identifier: Apache-2.0
// What a fuzzer's bytes are made into.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>

namespace memtrace {

// Taken from the front; zeros when there are no more.
class Input {
  public:
    Input(const uint8_t *data, size_t size) : rest_(data, size) {}

    template <typename T>
    T take() {
        T value{};
        size_t size = std::min(sizeof(value), rest_.size());
        if (size)
            std::memcpy(&value, rest_.data(), size);
        rest_ = rest_.subspan(size);
        return value;
    }
    std::span<const uint8_t> take_bytes(size_t size) {
        auto bytes = rest_.first(std::min(size, rest_.size()));
        rest_ = rest_.subspan(bytes.size());
        return bytes;
    }
    std::span<const uint8_t> rest() const {
        return rest_;
    }
    std::string_view text() const {
        return {reinterpret_cast<const char *>(rest_.data()), rest_.size()};
    }
    bool is_over() const {
        return rest_.empty();
    }

  private:
    std::span<const uint8_t> rest_;
};

}  // namespace memtrace
