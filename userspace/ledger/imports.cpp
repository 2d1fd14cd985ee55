// SPDX-License-Identifier: Apache-2.0
#include "ledger/imports.h"

#include <algorithm>
#include <map>

namespace memtrace {

namespace {

constexpr size_t kMaxDepth = 200;

struct Running {
    Import import;
    uint64_t begun_ns = 0;
    int64_t begun_rss = 0;
};

struct Thread {
    std::vector<Running> running;  // outermost first
    uint64_t deeper = 0;           // running inside the innermost of these, not kept
    const ImportEvent *last = nullptr;
};

void sort_by_size(std::vector<Import> &imports) {
    std::stable_sort(imports.begin(), imports.end(),
                     [](const Import &a, const Import &b) { return a.total_bytes > b.total_bytes; });
}

void end_innermost(Thread &thread, const ImportEvent &at, bool found, std::vector<Import> &outermost) {
    Running ended = std::move(thread.running.back());
    thread.running.pop_back();
    Import &import = ended.import;
    import.found = found;
    import.total_bytes = at.rss_bytes - ended.begun_rss;
    import.total_ns = at.ns - ended.begun_ns;
    import.own_bytes = import.total_bytes;
    for (const Import &below : import.below)
        import.own_bytes -= below.total_bytes;
    sort_by_size(import.below);
    (thread.running.empty() ? outermost : thread.running.back().import.below).push_back(std::move(import));
}

}  // namespace

std::vector<Import> build_imports(const std::vector<ImportEvent> &events) {
    std::vector<Import> outermost;
    std::map<uint32_t, Thread> threads;
    for (const ImportEvent &event : events) {
        Thread &thread = threads[event.thread];
        thread.last = &event;
        // Nothing nests as deep by itself. Deeper ones belong to the one at this depth.
        if (thread.running.size() == kMaxDepth && (event.begins || thread.deeper)) {
            event.begins ? thread.deeper++ : thread.deeper--;
            continue;
        }
        if (event.begins) {
            Running begun;
            begun.import.module = event.module;
            begun.begun_ns = event.ns;
            begun.begun_rss = event.rss_bytes;
            thread.running.push_back(std::move(begun));
            continue;
        }
        // One that ends without having begun here began before the trace did.
        bool known = std::any_of(thread.running.begin(), thread.running.end(),
                                 [&](const Running &running) { return running.import.module == event.module; });
        // An import that raised an exception does not end by itself; whatever it was part of does.
        while (known && thread.running.back().import.module != event.module)
            end_innermost(thread, event, false, outermost);
        if (known)
            end_innermost(thread, event, event.found, outermost);
    }
    for (auto &[id, thread] : threads)
        while (!thread.running.empty())
            end_innermost(thread, *thread.last, false, outermost);
    sort_by_size(outermost);
    return outermost;
}

}  // namespace memtrace
