// SPDX-License-Identifier: Apache-2.0
#include "collect/programs.h"

#include <gtest/gtest.h>

namespace memtrace {
namespace {

// As libbpf 1.1 prints them, on Linux 6.1 and 7.0.
TEST(WhyNotLoaded, IsTheVerifiersVerdict) {
    EXPECT_EQ(why_not_loaded({"libbpf: prog 'on_rss_stat': BPF program load failed: Invalid argument",
                              "libbpf: prog 'on_rss_stat': -- BEGIN PROG LOAD LOG --\n"
                              "func#0 @0\n"
                              "0: R1=ctx(off=0,imm=0) R10=fp0\n"
                              "back-edge from insn 1200 to 1187\n"
                              "processed 0 insns (limit 1000000) max_states_per_insn 0 total_states 0 peak_states 0 "
                              "mark_read 0\n"
                              "-- END PROG LOAD LOG --",
                              "libbpf: prog 'on_rss_stat': failed to load: -22",
                              "libbpf: failed to load object 'memtrace_bpf'"}),
              "prog 'on_rss_stat': back-edge from insn 1200 to 1187");
    EXPECT_EQ(why_not_loaded({"libbpf: prog 'on_line': -- BEGIN PROG LOAD LOG --\n"
                              "R2 min value is negative\n"
                              "verification time 51 usec\n"
                              "stack depth 0+0\n"
                              "processed 12 insns (limit 1000000)\n"
                              "-- END PROG LOAD LOG --"}),
              "prog 'on_line': R2 min value is negative");
}

TEST(WhyNotLoaded, IsTheFirstWarningWhenNoProgramWasTried) {
    EXPECT_EQ(why_not_loaded({"libbpf: Error in bpf_create_map_xattr(line_threads):Argument list too long(-7)",
                              "libbpf: map 'line_threads': failed to create: Argument list too long(-7)",
                              "libbpf: failed to load object 'memtrace_bpf'"}),
              "Error in bpf_create_map_xattr(line_threads):Argument list too long(-7)");
}

TEST(WhyNotLoaded, BearsWhatLibbpfDoesNotPrint) {
    EXPECT_EQ(why_not_loaded({}), "");
    EXPECT_EQ(why_not_loaded({"-- BEGIN PROG LOAD LOG --\n"}), "");
    EXPECT_EQ(why_not_loaded({"prog 'x': -- BEGIN PROG LOAD LOG --\nprocessed 1 insns"}), "prog 'x': ");
}

}  // namespace
}  // namespace memtrace
