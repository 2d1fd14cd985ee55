// SPDX-License-Identifier: Apache-2.0
#include "render/failures.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <string_view>

#include "base/counted.h"

namespace memtrace {

namespace {

// "3 {plural} were {what}".
struct FailureWords {
    std::string_view name, singular, plural, what;
};
constexpr FailureWords kFailures[] = {
    {"accounts_full", "process", "processes",
     "not followed, because 1,024 are followed at once: what happened there, and in what was started there, is not in "
     "this report"},
    {"calls_full", "system call", "system calls", "not counted: the table of calls was full"},
    {"calls_passed_over", "entry or exit of a system call", "entries or exits of system calls",
     "passed over by the kernel, which was at another on that CPU: their calls are not counted; what they changed is "
     "charged all the same"},
    {"changes_passed_over", "change of the resident set", "changes of the resident set",
     "passed over by the kernel, which with --rss-source classic does so while any process's call of bpf() waits, "
     "preempted, on that CPU: what changed is charged with the next change, and after the last one it is in "
     "\"unexplained\""},
    {"charges_full", "change of the resident set", "changes of the resident set",
     "not charged, because the table of charges was full: these pages are in \"unexplained\""},
    {"code_unreadable", "code object", "code objects",
     "not read whole: file or function is \"?\" there, or lines are not known"},
    {"collections_full", "garbage collection", "garbage collections", "not counted: the table of collections was full"},
    {"copies_full", "page copied on write", "pages copied on write", "not counted: the table of copies was full"},
    {"frame_not_code", "frame", "frames", "without a code object: what was changed there is in [line unknown]"},
    {"frame_register", "frame", "frames",
     "taken from the wrong register by the line engine, which reads frames since: lines before that may be wrong"},
    {"frame_unreadable", "frame", "frames", "not readable: what was changed there is in [line unknown]"},
    {"imports_full", "event of an import", "events of imports",
     "left out of the tree of imports, which holds 100,000 of a process"},
    {"line_threads_full", "hit of a line", "hits of lines",
     "without a row for its thread, which the kernel did not give: how often lines ran is not known"},
    {"lines_full", "hit of a line or call", "hits of lines or calls",
     "not counted, because 131,072 lines are counted at most"},
    {"memory_short", "thing", "things",
     "left out to keep to --max-memory (256 MiB, unless told): source lines and looks at the end first, then names and "
     "lines of code, then stacks, whose changes are in [line unknown]"},
    {"native_full", "place in native code", "places in native code",
     "not named, because 1,024 are in a process: what was changed there is in [no python frame]"},
    {"no_scratch", "event", "events",
     "met without memory to work in, which the kernel did not give: what changed is in [line unknown] or "
     "\"unexplained\""},
    {"owner_ranges_full", "range of pages", "ranges of pages",
     "not kept, because 262,144 are at most: these pages are in [address unknown]"},
    {"owners_full", "record of touched pages", "records of touched pages",
     "not received, because the ring buffer was full: these pages are in [address unknown], or are an earlier owner's"},
    {"page_faults_passed_over", "page fault", "page faults",
     "passed over, because a program of memtrace's was at another on that CPU: with --owners these pages are in "
     "[address unknown] or, where they were copied, not counted as copies; before Linux 6.2 what they changed is "
     "charged to where the thread was before"},
    {"preempted", "event", "events",
     "met by a program that had preempted another of memtrace's: what changed is in [line unknown]"},
    {"processes_given_up", "process", "processes",
     "given up: a page of its memory was not brought for a second. Nothing more was read of it, and what has no name "
     "for that is in [line unknown] or \"?\""},
    {"processes_left_out", "process", "processes",
     "left out of this report, the smallest of those that had ended, because memtrace's own memory was short "
     "(--max-memory)"},
    {"processes_unreadable", "process", "processes",
     "given up: a file mapped there could not be read to the end, in the time and memory that there are for that. "
     "What has no name for that is \"no CPython found in it\", or in [no python frame]"},
    {"program_nested", "event", "events",
     "passed over, because a program of memtrace's ran on that CPU already: what changed is charged with the next "
     "change"},
    {"record_malformed", "record of the kernel's side", "records of the kernel's side", "malformed, and passed over"},
    {"ring_full", "stack or code object", "stacks or code objects",
     "not received, because the ring buffer was full: what was changed there is in [line unknown]"},
    {"sources_full", "process", "processes", "left without source lines, because files of 200 are kept open"},
    {"stack_too_deep", "stack", "stacks", "cut at 512 frames: the outermost lines are charged too little"},
    {"stacks_left_out", "stack", "stacks",
     "left out, because all that are kept have 524,288 frames that differ: what was changed there is in [line "
     "unknown]"},
    {"threads_full", "event of a thread without a row", "events of threads without a row",
     "not told apart, because 16,384 threads are remembered at most: what changed is in [line unknown], and a system "
     "call is not counted"},
};

}  // namespace

std::string describe_failure(const std::string &name, uint64_t count) {
    auto known = std::find_if(std::begin(kFailures), std::end(kFailures),
                              [&](const FailureWords &words) { return words.name == name; });
    if (known == std::end(kFailures))
        return fmt::format("{}: {}", name, with_thousands(count));
    return fmt::format("{}: {} {} {}.", name, counted(count, known->singular, known->plural),
                       count == 1 ? "was" : "were", known->what);
}

std::vector<std::string> described_failures() {
    std::vector<std::string> names;
    for (const FailureWords &words : kFailures)
        names.emplace_back(words.name);
    return names;
}

}  // namespace memtrace
