// SPDX-License-Identifier: Apache-2.0
#include "explain/explain.h"

#include <fmt/core.h>

#include <chrono>
#include <functional>
#include <numeric>
#include <thread>
#include <utility>

#include "base/counted.h"
#include "base/failure.h"
#include "base/memory_budget.h"
#include "explain/process_snapshot.h"
#include "process/frozen_process.h"
#include "process/given_up.h"
#include "process/reading_child.h"

namespace memtrace {

namespace {

bool is_contradictory(const Explanation &explanation) {
    const auto &pymalloc = explanation.pymalloc;
    const auto &mimalloc = explanation.mimalloc;
    const auto &glibc = explanation.glibc;
    return (pymalloc && pymalloc->torn_pools) || (mimalloc && mimalloc->torn_segments + mimalloc->torn_pages) ||
           (glibc && !glibc->complete);
}

void name_lines(Explanation &explanation, const FirstTouch &first_touch) {
    const std::vector<ArenaPins> none;
    for (const ArenaPins &pins : explanation.census ? explanation.census->pins : none)
        for (uint64_t address : pins.addresses)
            if (std::string line = first_touch(address); !line.empty())
                explanation.pin_lines[line]++;
    for (HeapPin &pin : explanation.heap_pins)
        if (std::string line = first_touch(pin.chunk.address); !line.empty())
            pin.owner += fmt::format(", on a page that {} touched first", line);
}

// Of a process that stands still: each time a thread may be stopped in the middle of an allocation, in which case
// letting it go on for a moment helps. Of one that allocates all the time, one snapshot in four was such.
constexpr int kPauses = 5;
constexpr std::chrono::nanoseconds kLongestPause = std::chrono::milliseconds(500);  // all together
constexpr std::chrono::milliseconds kBetweenPauses{10};                             // long enough for the thread to run

ProcessSnapshot take_snapshot_paused(int pid, const FoundPython &python, const std::function<void()> &on_read) {
    auto place = find_place(pid, python);  // if nothing agrees, it is found while the process is paused
    std::chrono::nanoseconds paused{0}, last_pause{0};
    bool is_time_up = false;
    auto pause = [&] {
        FrozenProcess frozen(pid, kLongestPause - paused);
        ReadingChild::Watch until_due([&] {
            frozen.let_go_when_due();
            if (on_read)
                on_read();
        });
        ProcessSnapshot snapshot = take_snapshot_standing_still(pid, python, place);
        last_pause = frozen.release();
        paused += last_pause;
        is_time_up = frozen.was_due();
        return snapshot;
    };
    ProcessSnapshot best = pause();
    bool is_of_one_moment = !is_time_up;
    for (int pauses = 1; is_contradictory(best.explanation) && pauses < kPauses && !is_time_up; pauses++) {
        if ((is_time_up = kLongestPause - paused < last_pause))
            break;
        std::this_thread::sleep_for(kBetweenPauses);
        try {
            ProcessSnapshot snapshot = pause();
            // In the middle of an allocation, but of one moment, is better than of several.
            if (!is_time_up)
                best = std::move(snapshot);
        } catch (const Failure &) {  // it cannot be paused now, or has ended
            is_time_up = true;
        }
    }
    constexpr auto kLongestMs = std::chrono::duration_cast<std::chrono::milliseconds>(kLongestPause).count();
    if (!is_of_one_moment)
        best.explanation.incomplete.push_back(
            fmt::format("It was paused for {} ms, which is the longest, and then went on: what was read later is not "
                        "of the same moment.",
                        kLongestMs));
    else if (is_time_up)
        best.explanation.incomplete.push_back(
            fmt::format("What was read contradicts itself, as in the middle of an allocation, and it could not be "
                        "paused again: {} ms is the longest, all together.",
                        kLongestMs));
    best.explanation.frozen_ns = static_cast<uint64_t>(paused.count());
    return best;
}

}  // namespace

int64_t Traced::copied_bytes() const {
    return std::accumulate(copies.begin(), copies.end(), int64_t{0},
                           [](int64_t sum, const auto &copy) { return sum + copy.second; });
}

int64_t Explanation::layer(std::string_view owner) const {
    for (const Layer &layer : layers)
        if (layer.owner == owner)
            return layer.resident_bytes;
    return 0;
}

Explanation explain(int pid, const FoundPython &python, bool freeze, Traced traced,
                    const std::function<void()> &on_read) {
    auto started = std::chrono::steady_clock::now();
    ReadingChild::Watch watch(on_read);
    uint64_t left_out_before = MemoryBudget::instance().left_out();
    auto [explanation, mapped] = freeze ? take_snapshot_paused(pid, python, on_read) : take_snapshot(pid, python);
    std::vector<Mapping> mappings;
    for (const MappedMemory &part : mapped)
        mappings.push_back(part.mapping);
    explanation.c_allocator = find_c_allocator(pid, mappings, python.file, python.bias, ResidentMemory(pid));
    if (GivenUp::instance().contains(pid, GivenUp::kMemory))
        explanation.incomplete.push_back(
            "A page of its memory was not brought for a second, as with FUSE or userfaultfd: nothing more was read of "
            "it, and what was not read by then is not told apart.");
    if (uint64_t left_out = MemoryBudget::instance().left_out() - left_out_before)
        explanation.incomplete.push_back(
            fmt::format("memtrace keeps to {} MiB of memory (--max-memory), and has left out detail for that, {}: "
                        "objects of cycles first, then whose blocks and buffers are.",
                        MemoryBudget::instance().limit() >> 20, counted(left_out, "time", "times")));
    explanation.traced = std::move(traced);
    if (explanation.traced.first_touch)
        name_lines(explanation, explanation.traced.first_touch);
    explanation.findings = find_causes(explanation);
    explanation.duration_ns = static_cast<uint64_t>(
        std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now() - started).count());
    return explanation;
}

}  // namespace memtrace
