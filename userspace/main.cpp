// SPDX-License-Identifier: Apache-2.0
#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <exception>
#include <memory>

#include "base/failure.h"
#include "base/printable.h"
#include "cli/commands.h"
#include "cli/options.h"
#include "cli/output.h"

namespace {

// What we say may quote a target. It is one line; what the verifier says, which --verbose prints, is several.
class PrintableMessage : public spdlog::custom_flag_formatter {
  public:
    void format(const spdlog::details::log_msg &message, const std::tm &, spdlog::memory_buf_t &line) override {
        std::string_view text(message.payload.data(), message.payload.size());
        std::string shown =
            message.level < spdlog::level::info ? memtrace::printable_lines(text) : memtrace::printable(text);
        line.append(shown.data(), shown.data() + shown.size());
    }
    std::unique_ptr<custom_flag_formatter> clone() const override {
        return std::make_unique<PrintableMessage>();
    }
};

void set_up_messages() {
    spdlog::set_default_logger(spdlog::stderr_logger_st("memtrace"));
    auto formatter = std::make_unique<spdlog::pattern_formatter>();
    formatter->add_flag<PrintableMessage>('*').set_pattern("memtrace: %*");
    spdlog::set_formatter(std::move(formatter));
}

}  // namespace

int main(int argc, char **argv) {
    memtrace::guard_standard_streams();
    set_up_messages();
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
