// SPDX-License-Identifier: Apache-2.0
#include "ledger/heaviest_chain.h"

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <utility>

#include "ledger/ledger.h"

namespace memtrace {

namespace {

using Line = std::pair<const CodeObject *, int>;

// The lines of a stack, outermost first, each once, and what was charged to them.
struct Path {
    std::vector<Line> lines;
    int64_t grown = 0;
};

std::vector<Path> paths_of(const AccountData &data, const CodeTable &codes, int64_t page_bytes) {
    std::vector<Path> paths;
    for (const auto &[key, charge] : data.charges) {
        const auto *frames = key.owner == MT_OWNER_STACK ? codes.resolve(key.account, key.stack) : nullptr;
        Path path{{}, frames ? grown_bytes(charge, page_bytes) : 0};
        if (!path.grown)
            continue;
        std::set<Line> once;
        for (auto frame = frames->rbegin(); frame != frames->rend(); ++frame) {
            Line line{frame->code, frame->line.value_or(0)};
            if (once.insert(line).second)
                path.lines.push_back(line);
        }
        paths.push_back(std::move(path));
    }
    return paths;
}

}  // namespace

std::vector<ChainLink> heaviest_chain(const AccountData &data, const CodeTable &codes, int64_t page_bytes) {
    std::vector<ChainLink> chain;
    for (std::vector<Path> paths = paths_of(data, codes, page_bytes); !paths.empty();) {
        size_t depth = chain.size();
        std::map<Line, int64_t> next;
        for (const Path &path : paths)
            if (path.lines.size() > depth)
                next[path.lines[depth]] += path.grown;
        auto heaviest = std::max_element(next.begin(), next.end(),
                                         [](const auto &a, const auto &b) { return a.second < b.second; });
        if (heaviest == next.end() || (depth && 2 * heaviest->second < chain[0].grown))
            break;
        Line line = heaviest->first;
        int64_t grown = heaviest->second;
        chain.push_back({{line.first, line.second ? std::optional(line.second) : std::nullopt}, grown});
        std::erase_if(paths, [&](const Path &path) { return path.lines.size() <= depth || path.lines[depth] != line; });
    }
    return chain;
}

}  // namespace memtrace
