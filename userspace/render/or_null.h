// SPDX-License-Identifier: Apache-2.0
// What is unknown is null in JSON.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>

namespace memtrace {

template <typename T>
nlohmann::ordered_json or_null(const std::optional<T> &value) {
    return value ? nlohmann::ordered_json(*value) : nlohmann::ordered_json();
}

inline nlohmann::ordered_json text_or_null(const std::string &text) {
    return text.empty() ? nlohmann::ordered_json() : nlohmann::ordered_json(text);
}

}  // namespace memtrace
