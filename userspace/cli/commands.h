// SPDX-License-Identifier: Apache-2.0
// What each command does. They return memtrace's exit status, and throw Failure.
#pragma once

#include "cli/options.h"

namespace memtrace {

int run_attach(const Options &options);
int run_command(const Options &options);
int run_explain(const Options &options);
int run_doctor(const Options &options);

}  // namespace memtrace
