// SPDX-License-Identifier: Apache-2.0
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <exception>

#include "base/failure.h"
#include "cli/commands.h"
#include "cli/options.h"
#include "cli/output.h"

int main(int argc, char **argv) {
    memtrace::guard_standard_streams();
    spdlog::set_default_logger(spdlog::stderr_logger_st("memtrace"));
    spdlog::set_pattern("memtrace: %v");
    try {
        auto options = memtrace::parse_options(argc, argv);
        if (!options)
            return 0;
        if (options->verbose)
            spdlog::set_level(spdlog::level::debug);
        switch (options->command) {
            case memtrace::Command::kRun:
                return memtrace::run_command(*options);
            case memtrace::Command::kExplain:
                return memtrace::run_explain(*options);
            case memtrace::Command::kDoctor:
                return memtrace::run_doctor(*options);
            case memtrace::Command::kAttach:
                break;
        }
        return memtrace::run_attach(*options);
    } catch (const memtrace::Failure &failure) {
        spdlog::error("{}", failure.what());
        return failure.exit_status();
    } catch (const std::exception &error) {
        spdlog::error("{}", error.what());
        return memtrace::kExitFailure;
    }
}
