// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "base/counted.h"
#include "base/printable.h"
#include "render/explanation.h"
#include "render/or_null.h"
#include "render/render.h"

namespace memtrace {

namespace {

using json = nlohmann::ordered_json;

// What each layer is, to somebody who never heard of an arena.
const char *describe(const std::string &owner) {
    static constexpr std::pair<std::string_view, const char *> kWords[] = {
        {"pymalloc_live", "small Python objects in use"},
        {"pymalloc_free_blocks", "free room between small Python objects"},
        {"pymalloc_free_pools", "free room for small Python objects of any size"},
        {"pymalloc_headers", "the small-object allocator's own records"},
        {"mimalloc_live", "Python objects in use, in mimalloc's memory"},
        {"mimalloc_free", "mimalloc's memory, free between and beside them"},
        {"mimalloc_headers", "mimalloc's own records"},
        {"c_heap_live", "the C heap in use: larger Python objects, extension modules"},
        {"c_heap_free", "the C heap, freed and kept between what is in use"},
        {"c_heap_top", "the C heap, free at its end"},
        {"mapped_blocks", "large blocks from the C library, each a mapping of its own"},
        {"anonymous", "other private memory: thread stacks, mappings made without the C library's malloc"},
        {"lazy_free", "given up, and not yet taken by the kernel"},
        {"huge_page_zeros", "never written, and resident as part of huge pages"},
        {"file_mappings", "programs, libraries and other files, shared with the page cache"},
        {"file_private", "pages of files that the process has changed for itself"},
        {"shared_memory", "shared memory, which no file on a disk backs"},
        {"stack", "the main thread's stack"},
    };
    for (auto [name, words] : kWords)
        if (owner == name)
            return words;
    return "";
}

// Arenas by how full they are.
struct Occupancy {
    const char *title;
    double below;  // share of live bytes
    uint64_t arenas = 0;
    uint64_t live_blocks = 0;
    uint64_t live_bytes = 0;
    uint64_t resident_bytes = 0;
};

std::array<Occupancy, 5> sort_arenas(const PymallocSnapshot &pymalloc) {
    std::array<Occupancy, 5> rows{{{"empty", 0, 0, 0, 0, 0},
                                   {"below 1 %", 0.01, 0, 0, 0, 0},
                                   {"below 10 %", 0.1, 0, 0, 0, 0},
                                   {"below 50 %", 0.5, 0, 0, 0, 0},
                                   {"50 % and more", 2, 0, 0, 0, 0}}};
    for (const Arena &arena : pymalloc.arenas) {
        double share = static_cast<double>(arena.live_bytes) / pymalloc.place.arena_bytes;
        auto row = std::find_if(rows.begin(), rows.end(), [&](const Occupancy &candidate) {
            return candidate.below > 0 ? share < candidate.below : arena.live_blocks == 0;
        });
        row->arenas++;
        row->live_blocks += arena.live_blocks;
        row->live_bytes += arena.live_bytes;
        row->resident_bytes += arena.resident_bytes;
    }
    return rows;
}

std::string mib(uint64_t bytes) {
    return render_mib(static_cast<int64_t>(bytes));
}

void render_pymalloc(std::string &out, const PymallocSnapshot &pymalloc) {
    bool is_one = pymalloc.arenas.size() == 1;
    out += fmt::format("\n{} of {}{}, by how much {} in use\n", counted(pymalloc.arenas.size(), "arena"),
                       mib(pymalloc.place.arena_bytes), is_one ? "" : " each", is_one ? "of it is" : "of them is");
    out += "  Arenas  Live blocks    Live bytes      Resident   In use\n";
    for (const Occupancy &row : sort_arenas(pymalloc))
        if (row.arenas)
            out += fmt::format("{:>8}{:>13}{:>14}{:>14}   {}\n", row.arenas, row.live_blocks, mib(row.live_bytes),
                               mib(row.resident_bytes), row.title);
    if (pymalloc.torn_pools)
        out += fmt::format("Changed each time it was read, and taken for free: {}.\n",
                           counted(pymalloc.torn_pools, "pool"));
    if (pymalloc.absent_pools)
        out += fmt::format("Swapped out, and left there: {}.\n", counted(pymalloc.absent_pools, "pool"));
}

const char *name_of(MimallocSegment::State state) {
    switch (state) {
        case MimallocSegment::State::kOwned:
            return "owned";
        case MimallocSegment::State::kAbandoned:
            return "abandoned";
        case MimallocSegment::State::kFreed:
            return "freed";
    }
    return "";
}

void render_mimalloc(std::string &out, const MimallocSnapshot &mimalloc) {
    out += fmt::format("\nmimalloc in {}\n", counted(mimalloc.segments.size(), "segment"));
    out += "  Segments   Live blocks    Live bytes      Resident   State\n";
    for (auto state :
         {MimallocSegment::State::kOwned, MimallocSegment::State::kAbandoned, MimallocSegment::State::kFreed}) {
        MimallocSegment sum;
        int64_t count = 0;
        for (const MimallocSegment &segment : mimalloc.segments) {
            if (segment.state != state)
                continue;
            count++;
            sum.live_blocks += segment.live_blocks;
            sum.live_bytes += segment.live_bytes;
            sum.resident_bytes += segment.resident_bytes;
        }
        static constexpr const char *kWords[] = {"of threads", "of threads that have ended",
                                                 "freed, not yet given back"};
        if (count)
            out += fmt::format("{:>10}{:>14}{:>14}{:>14}   {}\n", count, sum.live_blocks, mib(sum.live_bytes),
                               mib(sum.resident_bytes), kWords[static_cast<int>(state)]);
    }
    out += fmt::format("{} are free in pages that have a block of some size in use, {} in no page.\n",
                       mib(mimalloc.free_block_bytes()), mib(mimalloc.free_span_bytes()));
    if (mimalloc.torn_segments + mimalloc.torn_pages)
        out += fmt::format("{} and {} changed each time they were read: what is in use there is not counted.\n",
                           counted(mimalloc.torn_segments, "segment"), counted(mimalloc.torn_pages, "page"));
}

void render_glibc(std::string &out, const GlibcSnapshot &glibc) {
    out += fmt::format("\nThe C heap (glibc) in {}\n", counted(glibc.arenas.size(), "arena"));
    out += "   From kernel        In use   Free chunks    At its end\n";
    for (const GlibcArena &arena : glibc.arenas) {
        uint64_t free = arena.bins.bytes + arena.fast.bytes;
        out += fmt::format("{:>14}{:>14}{:>14}{:>14}   {}\n", mib(arena.system_bytes),
                           mib(arena.system_bytes - std::min(arena.system_bytes, free + arena.top.bytes)), mib(free),
                           mib(arena.top.bytes), arena.is_main ? "main" : "of threads");
    }
    out += fmt::format("malloc_trim(0) would give {} back to the kernel.\n", mib(glibc.trimmable_bytes()));
    out += fmt::format("The heap's end goes back from {} on; a block is a mapping of its own from {} on{}.\n",
                       mib(glibc.parameters.trim_threshold), mib(glibc.parameters.mmap_threshold),
                       glibc.parameters.thresholds_move ? ", until a larger one is freed" : "");
    if (glibc.parameters.mapped_chunks)
        out += fmt::format("Such mappings are {} of {}.\n", counted(glibc.parameters.mapped_chunks, "block"),
                           mib(glibc.parameters.mapped_bytes));
    if (!glibc.complete)
        out += fmt::format(
            "It changed while it was read, or was not all in memory: {} could not be followed, and count as in use.\n",
            mib(glibc.torn_bytes()));
}

json render_glibc(const GlibcSnapshot &glibc) {
    json arenas = json::array();
    for (const GlibcArena &arena : glibc.arenas)
        arenas.push_back({{"address", arena.address},
                          {"main", arena.is_main},
                          {"system_bytes", arena.system_bytes},
                          {"top_bytes", arena.top.bytes},
                          {"bin_chunks", arena.bins.chunks},
                          {"bin_bytes", arena.bins.bytes},
                          {"fast_chunks", arena.fast.chunks},
                          {"fast_bytes", arena.fast.bytes}});
    return {{"trim_threshold_bytes", glibc.parameters.trim_threshold},
            {"mmap_threshold_bytes", glibc.parameters.mmap_threshold},
            {"thresholds_move", glibc.parameters.thresholds_move},
            {"mapped_chunks", glibc.parameters.mapped_chunks},
            {"mapped_bytes", glibc.parameters.mapped_bytes},
            {"trimmable_bytes", glibc.trimmable_bytes()},
            {"complete", glibc.complete},
            {"torn_bytes", glibc.torn_bytes()},
            {"arenas", arenas}};
}

json render_mimalloc(const MimallocSnapshot &mimalloc) {
    json classes = json::array(), segments = json::array();
    for (const MimallocPages &pages : mimalloc.classes)
        classes.push_back({{"block_bytes", pages.block_bytes},
                           {"pages", pages.pages},
                           {"live_blocks", pages.live_blocks},
                           {"capacity_blocks", pages.capacity_blocks}});
    for (const MimallocSegment &segment : mimalloc.segments)
        segments.push_back({{"address", segment.address},
                            {"bytes", segment.bytes},
                            {"state", name_of(segment.state)},
                            {"huge", segment.is_huge},
                            {"committed_bytes", segment.committed_bytes},
                            {"resident_bytes", segment.resident_bytes},
                            {"pages", segment.pages},
                            {"live_blocks", segment.live_blocks},
                            {"live_bytes", segment.live_bytes},
                            {"free_span_bytes", segment.free_span_bytes}});
    return {{"live_blocks", mimalloc.live_blocks()},
            {"live_bytes", mimalloc.live_bytes()},
            {"free_block_bytes", mimalloc.free_block_bytes()},
            {"free_span_bytes", mimalloc.free_span_bytes()},
            {"torn_segments", mimalloc.torn_segments},
            {"torn_pages", mimalloc.torn_pages},
            {"classes", classes},
            {"segments", segments}};
}

json render_c_allocator(const CAllocator &allocator) {
    return {{"name", or_null(allocator.name)}, {"module", allocator.module}};
}

json render_pymalloc(const PymallocSnapshot &pymalloc) {
    json classes = json::array(), arenas = json::array();
    for (const SizeClass &c : pymalloc.classes)
        if (c.pools)
            classes.push_back({{"block_bytes", c.block_bytes},
                               {"pools", c.pools},
                               {"live_blocks", c.live_blocks},
                               {"free_blocks", c.free_blocks}});
    for (const Arena &arena : pymalloc.arenas)
        arenas.push_back({{"address", arena.address},
                          {"pools", arena.pools},
                          {"used_pools", arena.used_pools},
                          {"live_blocks", arena.live_blocks},
                          {"live_bytes", arena.live_bytes},
                          {"resident_bytes", arena.resident_bytes}});
    return {{"arena_bytes", pymalloc.place.arena_bytes},
            {"pool_bytes", pymalloc.place.pool_bytes},
            {"alignment_bytes", pymalloc.place.alignment},
            {"live_bytes", pymalloc.live_bytes()},
            {"free_block_bytes", pymalloc.free_block_bytes()},
            {"free_pools", pymalloc.free_pools()},
            {"pool_header_bytes", pymalloc.pool_header_bytes()},
            {"quantization_bytes", pymalloc.quantization_bytes()},
            {"torn_pools", pymalloc.torn_pools},
            {"absent_pools", pymalloc.absent_pools},
            {"classes", classes},
            {"arenas", arenas}};
}

constexpr size_t kTypesInTable = 20;

void render_census(std::string &out, const Census &census) {
    out += "\nPython objects alive, by type\n";
    out += "     Objects         Bytes  Larger buffers   Type\n";
    for (const TypeCount &type : std::span(census.types).first(std::min(kTypesInTable, census.types.size())))
        out += fmt::format("{:>12}{:>14}{:>16}   {}\n", type.objects, mib(type.bytes), mib(type.buffer_bytes),
                           printable(type.type));
    if (census.types.size() > kTypesInTable)
        out += fmt::format("And {}; --format json has them all.\n",
                           counted(census.types.size() - kTypesInTable, "more type"));
    out += fmt::format("Tables of dicts, lists and the like, small blocks that are no objects: {} of {}.\n",
                       counted(census.small_buffers.blocks, "block"), mib(census.small_buffers.bytes));
    out += fmt::format("From malloc, and of no object that was found: {} of {}.\n",
                       counted(census.native.blocks, "block"), mib(census.native.bytes));
    if (census.number_blocks.blocks)
        out += fmt::format("Python 2's ints and floats: {} of {}, with {} of {} places in use.\n",
                           counted(census.number_blocks.blocks, "block"), mib(census.number_blocks.bytes),
                           with_thousands(census.numbers_alive), with_thousands(census.number_slots));
}

json render_census(const Census &census) {
    auto block_count = [](const BlockCount &count) { return json{{"blocks", count.blocks}, {"bytes", count.bytes}}; };
    json types = json::array();
    for (const TypeCount &type : census.types)
        types.push_back({{"type", type.type},
                         {"objects", type.objects},
                         {"bytes", type.bytes},
                         {"buffer_bytes", type.buffer_bytes}});
    return {{"types", types},
            {"small_buffers", block_count(census.small_buffers)},
            {"kept", block_count(census.kept_objects)},
            {"native", block_count(census.native)},
            {"complete", census.complete}};
}

std::string render_prediction(const Remedy &remedy) {
    if (remedy.predicted_bytes && *remedy.predicted_bytes > 0)
        return fmt::format(": {} would go back", render_mib(*remedy.predicted_bytes));
    if (remedy.at_most_bytes && *remedy.at_most_bytes > 0)
        return fmt::format(": at most {} would go back", render_mib(*remedy.at_most_bytes));
    return "";
}

}  // namespace

void render_incomplete(std::string &out, const std::vector<std::string> &incomplete) {
    for (const std::string &sentence : incomplete)
        out += fmt::format("Not all was looked at, and findings may be missing. {}\n", printable(sentence));
}

void render_findings(std::string &out, const std::vector<Finding> &findings, bool at_programs_end) {
    out += at_programs_end ? "\nWhy memory was resident when the program had run to its end, and what would help\n"
                           : "\nWhy it is resident, and what would help\n";
    int number = 0;
    for (const Finding &finding : findings) {
        out += fmt::format("{:>3}. {:>12}   {}: {}\n", ++number, render_mib(finding.bytes), finding.cause,
                           printable(finding.summary));
        for (const std::string &sentence : finding.evidence)
            out += fmt::format("{:>20}{}\n", "", printable(sentence));
        for (const Remedy &remedy : finding.remedies)
            out += fmt::format("{:>20}-> {}{}\n", "", printable(remedy.action), render_prediction(remedy));
    }
}

json render_findings(const std::vector<Finding> &findings) {
    json rows = json::array();
    for (const Finding &finding : findings) {
        json remedies = json::array();
        for (const Remedy &remedy : finding.remedies)
            remedies.push_back({{"action", remedy.action},
                                {"predicted_bytes", or_null(remedy.predicted_bytes)},
                                {"at_most_bytes", or_null(remedy.at_most_bytes)}});
        rows.push_back({{"cause", finding.cause},
                        {"bytes", finding.bytes},
                        {"summary", finding.summary},
                        {"evidence", json::parse(finding.figures)},
                        {"remedies", remedies}});
    }
    return rows;
}

json render_layers(const std::vector<Layer> &layers) {
    json rows = json::array();
    for (const Layer &layer : layers)
        rows.push_back({{"owner", layer.owner}, {"resident_bytes", layer.resident_bytes}});
    return rows;
}

std::string render_explanation_table(const Explanation &explanation) {
    std::string out = fmt::format("process {}: {} | CPython {}{} | read in {:.0f} ms\n", explanation.pid,
                                  join_command(explanation.identity.cmdline), explanation.python.version_string(),
                                  explanation.python.free_threaded ? " free-threaded" : "",
                                  static_cast<double>(explanation.duration_ns) / 1e6);
    if (explanation.frozen_ns)
        out += fmt::format("It was paused for {:.1f} ms.\n", static_cast<double>(*explanation.frozen_ns) / 1e6);
    out += fmt::format("\nRSS is {}, of which\n", render_mib(explanation.rss_bytes));
    for (const Layer &layer : explanation.layers)
        out += fmt::format("{:>14}   {}\n", render_mib(layer.resident_bytes), describe(layer.owner));
    out +=
        fmt::format("Each page divided by the processes that have it (PSS): {}.\n", render_mib(explanation.pss_bytes));
    if (explanation.swap_bytes)
        out += fmt::format("Beside it, {} are swapped out: what lies there is not looked at, and no finding has it.\n",
                           render_mib(explanation.swap_bytes));
    render_incomplete(out, explanation.incomplete);
    render_findings(out, explanation.findings);
    if (explanation.census)
        render_census(out, *explanation.census);
    if (explanation.pymalloc)
        render_pymalloc(out, *explanation.pymalloc);
    else if (!explanation.mimalloc && explanation.census)
        out += "\nThe allocator of small objects was not found: the process uses another one.\n";
    if (explanation.mimalloc)
        render_mimalloc(out, *explanation.mimalloc);
    if (explanation.glibc)
        render_glibc(out, *explanation.glibc);
    else
        out += "\nThe C heap of glibc was not found.\n";
    if (const auto &allocator = explanation.c_allocator; allocator && allocator->name != "glibc")
        out += fmt::format("malloc is that of {} ({}): what it has is among the other private memory.\n",
                           allocator->name.value_or("an unknown allocator"), printable(allocator->module));
    return out;
}

std::string render_explanation_json(const Explanation &explanation) {
    json root = {
        {"schema", "memtrace.explain/1"},
        {"pid", explanation.pid},
        {"cmdline", explanation.identity.cmdline},
        {"python",
         {{"version", explanation.python.version_string()}, {"free_threaded", explanation.python.free_threaded}}},
        {"duration_ns", explanation.duration_ns},
        {"frozen_ns", or_null(explanation.frozen_ns)},
        {"rss_bytes", explanation.rss_bytes},
        {"pss_bytes", explanation.pss_bytes},
        {"swap_bytes", explanation.swap_bytes},
        {"peak_rss_bytes", or_null(explanation.peak_rss_bytes)},
        {"layers", render_layers(explanation.layers)},
        {"findings", render_findings(explanation.findings)},
        {"incomplete", explanation.incomplete},
        {"objects", explanation.census ? render_census(*explanation.census) : json()},
        {"pymalloc", explanation.pymalloc ? render_pymalloc(*explanation.pymalloc) : json()},
        {"mimalloc", explanation.mimalloc ? render_mimalloc(*explanation.mimalloc) : json()},
        {"c_allocator", explanation.c_allocator ? render_c_allocator(*explanation.c_allocator) : json()},
        {"glibc", explanation.glibc ? render_glibc(*explanation.glibc) : json()}};
    return root.dump(2, ' ', true, json::error_handler_t::replace) + "\n";
}

}  // namespace memtrace
