// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include "render/render.h"

namespace memtrace {

std::string render_status(const Progress &progress) {
    return fmt::format("{:.0f} s | RSS {} | grown {} | returned {} | lost events {}",
                       std::chrono::duration<double>(progress.elapsed).count(), render_mib(progress.rss),
                       render_mib(progress.grown), render_mib(progress.returned), progress.lost_events);
}

}  // namespace memtrace
