// SPDX-License-Identifier: Apache-2.0
#include "report/redact.h"

namespace memtrace {

namespace {

void redact(std::vector<std::string> &cmdline) {
    if (cmdline.size() < 2)
        return;
    cmdline.resize(1);
    cmdline.emplace_back("[arguments left out]");
}

}  // namespace

void redact(Explanation &explanation) {
    redact(explanation.identity.cmdline);
}

void redact(Report &report) {
    for (ReportProcess &process : report.processes) {
        redact(process.cmdline);
        for (ReportFunction &function : process.functions)
            for (ReportLine &line : function.lines)
                line.source.reset();
        for (ReportChainLink &link : process.heaviest_chain)
            link.source.reset();
        if (process.look.taken)
            redact(process.look.taken->explanation);
    }
}

}  // namespace memtrace
