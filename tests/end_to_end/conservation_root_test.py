"""The ledger's law on real programs: start + grown - returned + unexplained = end, and unexplained is next to nothing."""
import os
import subprocess
import unittest

from harness import (BPF, CLASSIC, MIB, PYTHON, SLACK, WORKLOADS, RootTest, kernel_is_preemptible, lines_of, python_process,
                     resident_bytes)

IDLE = """
import sys
ballast = bytearray(20 << 20)
ballast[::4096] = bytes(len(ballast[::4096]))
print("ready", flush=True)
sys.stdin.readline()
more = bytearray(30 << 20)
more[::4096] = bytes(len(more[::4096]))
del ballast
print("done", flush=True)
sys.stdin.readline()
"""

# Is in bpf() nearly all the time, copying a value of 128 KiB out of a map of its own.
CALLS_BPF = f"""
import contextlib, ctypes, os, resource, struct, sys
with contextlib.suppress(ValueError):  # before Linux 5.11 maps are locked memory
    resource.setrlimit(resource.RLIMIT_MEMLOCK, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
libc = ctypes.CDLL(None)
def bpf(command, *words):
    return libc.syscall({BPF}, command, struct.pack(*words).ljust(120, b"\\0"), 120)
MAP_CREATE, MAP_LOOKUP_ELEM, ARRAY, SIZE = 0, 1, 2, 128 << 10
map = bpf(MAP_CREATE, "5I", ARRAY, 4, SIZE, 1, 0)
key, value = ctypes.create_string_buffer(4), ctypes.create_string_buffer(SIZE)
assert map >= 0
print("ready", flush=True)
while os.getppid() == {os.getpid()}:
    assert bpf(MAP_LOOKUP_ELEM, "I4xQQQ", map, ctypes.addressof(key), ctypes.addressof(value), 0) == 0
"""
TOUCHES = """
import mmap, time
end = time.monotonic() + 3
while time.monotonic() < end:
    with mmap.mmap(-1, 1 << 20) as memory:
        memory.write(bytes(1 << 20))
"""


def workload(name):
    return os.path.join(WORKLOADS, name + ".py")


def on_one_cpu():
    os.sched_setaffinity(0, {0})


class ConservationTest(RootTest):
    def trace(self, name, *options):
        report = self.run_report(PYTHON, workload(name), options=options)
        self.assert_conserved(report)
        return report

    def owners(self, process):
        return {row["owner"]: row for row in process["owners"]}

    def test_threads(self):
        process = python_process(self.trace("threads"), "threads.py")
        # 8 threads x 20 rounds x 2,000 buffers of 4 KiB pass through line 7, most of them on fresh pages.
        self.assertGreater(lines_of(process, "threads.py", "grow")[7]["grown_bytes"], 100 * MIB)

    def test_fork(self):
        report = self.trace("fork")
        children = [p for p in report["processes"] if p["opened_by"] == "fork"]
        self.assertEqual(len(children), 3)
        for child in children:
            self.assertEqual(child["rss"]["start_bytes"], 0)
            self.assertGreater(self.owners(child)["[fork]"]["grown_bytes"], 10 * MIB)
            rows = lines_of(child, "fork.py", "child")
            self.assertAlmostEqual(rows[10]["grown_bytes"], 8 * MIB, delta=MIB)
            self.assertEqual(child["parent_pid"], report["processes"][0]["pid"])

    def test_exec(self):
        report = self.trace("exec")
        self.assertEqual([p["closed_by"] for p in report["processes"]], ["exec", "exec", "exit"])
        self.assertEqual(len({p["pid"] for p in report["processes"]}), 1)
        for process in report["processes"]:
            self.assertGreater(self.owners(process)["[exec]"]["grown_bytes"], 0)
            self.assertAlmostEqual(lines_of(process, "exec.py", "<module>")[6]["grown_bytes"], 16 * MIB, delta=SLACK)

    def test_programs_that_nothing_interrupts(self):
        """On aarch64 the kernel has not heard of a thread's pointer until it is switched out."""
        program = self.write("short.py", "x = bytearray(16 << 20)\n")
        for _ in range(5):
            report = self.run_report(PYTHON, "-S", program, options=["--no-look"])
            self.assert_conserved(report)
            grown = lines_of(report["processes"][0], "short.py", "<module>").get(1, {"grown_bytes": 0})["grown_bytes"]
            self.assertAlmostEqual(grown, 16 * MIB, delta=SLACK)

    def test_mremap_growth(self):
        process = python_process(self.trace("mremap"), "mremap.py")
        self.assertGreater(process["syscalls"]["mremap"]["count"], 20)
        # 3,000,000 pointers.
        self.assertAlmostEqual(lines_of(process, "mremap.py", "grow")[5]["increment_bytes"], 24_000_000, delta=MIB)

    def test_madvise(self):
        process = python_process(self.trace("madvise"), "madvise.py")
        given = [row for row in process["returns"] if row["how"] == "madvise"]
        self.assertEqual([(row["function"], row["bytes"], row["count"]) for row in given], [("give_back", 32 * MIB, 1)])
        self.assertAlmostEqual(lines_of(process, "madvise.py", "touch")[10]["grown_bytes"], 64 * MIB, delta=SLACK)

    def test_file_mapping(self):
        process = python_process(self.trace("file_mapping"), "file_mapping.py")
        # Written through a shared mapping, then read through a private one: file pages. Half of them copied: anonymous.
        self.assertGreaterEqual(process["members"]["file"]["grown_bytes"], 48 * MIB)
        self.assertGreaterEqual(process["members"]["anonymous"]["grown_bytes"], 12 * MIB)

    def test_shared_memory(self):
        report = self.trace("shared_memory")
        for process in report["processes"]:
            self.assertGreaterEqual(process["members"]["shared"]["grown_bytes"], 24 * MIB)
        parent = python_process(report, "shared_memory.py")
        self.assertEqual(lines_of(parent, "shared_memory.py", "write")[11]["grown_bytes"] // MIB, 24)

    def test_gc_churn(self):
        process = python_process(self.trace("gc_churn"), "gc_churn.py")
        self.assertGreater(lines_of(process, "gc_churn.py", "churn")[15]["returned_bytes"], 50 * MIB)

    def test_subprocesses(self):
        report = self.trace("subprocesses")
        spawned = [p for p in report["processes"] if "-c" in p["cmdline"]]
        self.assertEqual(len(spawned), 5)
        for process in spawned:
            self.assertGreaterEqual(lines_of(process, "<string>", "<module>")[1]["grown_bytes"], 4 * MIB)

    def test_children_are_left_alone_when_asked(self):
        report = self.trace("subprocesses", "--no-children")
        self.assertEqual(len(report["processes"]), 1)

    def test_the_classic_tracepoint_counts_the_same(self):
        for name in ("threads", "fork", "madvise", "file_mapping"):
            with self.subTest(workload=name):
                report = self.trace(name, "--rss-source", "classic")
                self.assertEqual(report["tracer"]["rss_source"], CLASSIC)

    def test_bpf_calls_that_are_preempted(self):
        """Where kernels are preemptible, the classic tracepoint runs no program on a CPU on which a call of bpf() waits to run
        on. What memtrace takes by itself does."""
        beside = self.start(PYTHON, "-c", CALLS_BPF, stdout=subprocess.PIPE, text=True, preexec_fn=on_one_cpu)
        self.assertEqual(beside.stdout.readline(), "ready\n")
        passed_over = {}
        for source in ("auto", "classic"):
            report = self.run_report("taskset", "-c", "0", PYTHON, self.write("touches.py", TOUCHES),
                                     options=["--no-look", "--rss-source", source])
            self.assert_conserved(report)
            self.assertGreater(sum(process["rss"]["grown_bytes"] for process in report["processes"]), 20 * MIB)
            passed_over[source] = report["failures"].get("changes_passed_over", 0)
        self.assertEqual(passed_over["auto"], 0)
        if kernel_is_preemptible():
            self.assertGreater(passed_over["classic"], 0)

    def test_attach_agrees_with_the_page_tables(self):
        target = self.start_python(IDLE)
        before = resident_bytes(target.pid)
        tracer = self.attach("-p", str(target.pid))
        target.stdin.write("\n")
        target.stdin.flush()
        self.assertEqual(target.stdout.readline(), "done\n")
        report = self.finish(tracer)
        after = resident_bytes(target.pid)
        self.assert_conserved(report)
        rss = report["processes"][0]["rss"]
        self.assertAlmostEqual(rss["start_bytes"], before, delta=SLACK)
        self.assertAlmostEqual(rss["end_bytes"], after, delta=SLACK)
        self.assertEqual(report["processes"][0]["closed_by"], "detach")


if __name__ == "__main__":
    unittest.main()
