// SPDX-License-Identifier: Apache-2.0
// An error that ends memtrace: one clear sentence and an exit status. Thrown where it is found, printed once, in main.
#pragma once

#include <fmt/core.h>

#include <stdexcept>
#include <string>
#include <utility>

namespace memtrace {

// memtrace's own exit statuses, as `env` and `timeout` use them.
inline constexpr int kExitNotReady = 1;  // of memtrace doctor: something that tracing needs is missing
inline constexpr int kExitUsage = 2;
inline constexpr int kExitFailure = 125;
inline constexpr int kExitNotExecutable = 126;
inline constexpr int kExitNotFound = 127;

class Failure : public std::runtime_error {
  public:
    Failure(int exit_status, const std::string &sentence) : std::runtime_error(sentence), exit_status_(exit_status) {}

    int exit_status() const {
        return exit_status_;
    }

  private:
    int exit_status_;
};

template <typename... Args>
[[noreturn]] void fail(fmt::format_string<Args...> format, Args &&...args) {
    throw Failure(kExitFailure, fmt::format(format, std::forward<Args>(args)...));
}

template <typename... Args>
[[noreturn]] void fail_usage(fmt::format_string<Args...> format, Args &&...args) {
    throw Failure(kExitUsage, fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace memtrace
