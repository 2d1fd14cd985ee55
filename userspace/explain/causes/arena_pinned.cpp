// SPDX-License-Identifier: Apache-2.0
// An arena goes back only when nothing in it is alive: a few live blocks keep all of it.
#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "base/counted.h"
#include "explain/causes/causes.h"
#include "explain/causes/figures.h"
#include "explain/causes/types.h"
#include "explain/explain.h"

namespace memtrace {

namespace {

// What would go back were all objects of the type dropped that alone keeps most arenas; and were all dropped.
void add_remedies(const Explanation &explanation, Finding &finding) {
    struct Kept {
        uint64_t arenas = 0;
        uint64_t blocks = 0;
        uint64_t bytes = 0;
    };
    std::map<std::string, Kept> by_type;
    Kept all;
    for (const ArenaPins &pins : explanation.census->pins) {
        auto add_to = [&](Kept &kept) {
            kept.arenas++;
            kept.blocks += pins.blocks;
            kept.bytes += explanation.pymalloc->arenas[pins.arena].resident_bytes;
        };
        add_to(all);
        if (pins.blocks_by_type.size() == 1)
            add_to(by_type[pins.blocks_by_type.begin()->first]);
    }
    auto predicted = [&explanation](const Kept &kept) {
        return released_with_arenas(explanation, kept.arenas, kept.bytes);
    };
    finding.remedies.push_back({all.blocks == 1 ? "drop the one object that keeps this arena"
                                                : fmt::format("drop all of the {} that keep {}", counted(all.blocks, "object"),
                                                              all.arenas == 1 ? "this arena" : "these arenas"),
                                predicted(all)});
    auto most = std::max_element(by_type.begin(), by_type.end(),
                                 [](const auto &a, const auto &b) { return a.second.bytes < b.second.bytes; });
    if (most != by_type.end() && !most->first.empty())
        finding.remedies.push_back({fmt::format("drop the {} of type {} with nothing beside {} in {}",
                                                counted(most->second.blocks, "object"), most->first,
                                                most->second.blocks == 1 ? "it" : "them",
                                                counted(most->second.arenas, "arena")),
                                    predicted(most->second)});
}

}  // namespace

void arena_pinned(const Explanation &explanation, std::vector<Finding> &findings) {
    if (!explanation.pymalloc || !explanation.census)
        return;
    const std::vector<Arena> &arenas = explanation.pymalloc->arenas;
    Finding finding{.cause = "arena_pinned"};
    uint64_t blocks = 0;
    std::map<std::string, uint64_t> types;
    nlohmann::ordered_json examples = nlohmann::ordered_json::array();
    size_t count = explanation.census->pins.size();
    for (const ArenaPins &pins : explanation.census->pins) {
        const Arena &arena = arenas[pins.arena];
        finding.bytes += static_cast<int64_t>(arena.resident_free_bytes);
        blocks += pins.blocks;
        for (const auto &[type, number] : pins.blocks_by_type)
            types[type] += number;
        if (examples.size() < 10)
            examples.push_back({{"arena", arena.address}, {"live_blocks", pins.blocks}, {"addresses", pins.addresses}});
    }
    if (!count)
        return;
    nlohmann::ordered_json by_type = nlohmann::ordered_json::array();
    std::string names;
    for (const auto &[type, number] : most_first(types)) {
        by_type.push_back(
            {{"type", type.empty() ? nlohmann::ordered_json() : nlohmann::ordered_json(type)}, {"blocks", number}});
        if (by_type.size() <= 5)
            names += fmt::format("{}{} of {}", names.empty() ? "" : ", ", number,
                                 type.empty() ? "tables and buffers" : type);
    }
    bool is_one = count == 1;
    finding.summary = fmt::format(
        "{} for small objects, {} {}, {} nearly empty, but cannot go back: a few objects still live in {}.",
        counted(count, "arena"), is_one ? "of" : "each of", in_mib(explanation.pymalloc->place.arena_bytes),
        is_one ? "is" : "are", is_one ? "it" : "each");
    const ArenaPins &first = explanation.census->pins[0];
    finding.evidence = {fmt::format("{} {} {}, on average {:.0f} in each: {}.", counted(blocks, "live object"),
                                    blocks == 1 ? "keeps" : "keep", counted(count, "arena"),
                                    static_cast<double>(blocks) / static_cast<double>(count), names)};
    if (!first.addresses.empty())
        finding.evidence.push_back(fmt::format("For example the object at {:#x} lies in the arena at {:#x}.",
                                               first.addresses[0], arenas[first.arena].address));
    nlohmann::ordered_json by_line = nlohmann::ordered_json::array();
    for (const auto &[line, number] : most_first(explanation.pin_lines)) {
        by_line.push_back({{"line", line}, {"objects", number}});
        if (by_line.size() <= 3)
            finding.evidence.push_back(
                fmt::format("Of those looked at, {} on pages that {} touched first.",
                            number == 1 ? "1 lies" : fmt::format("{} lie", with_thousands(number)), line));
    }
    finding.figures = figures(
        {{"arenas", count}, {"live_blocks", blocks}, {"types", by_type}, {"examples", examples}, {"lines", by_line}});
    add_remedies(explanation, finding);
    findings.push_back(std::move(finding));
}

}  // namespace memtrace
