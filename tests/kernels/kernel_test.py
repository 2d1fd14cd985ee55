"""What memtrace can do on this kernel. scripts/vmtest runs it in a virtual machine; it runs wherever root does.

usage: kernel_test.py LEVEL    the tests of a level (see LEVELS), one tab-separated line a result: "result", what, test, outcome
                               ("ok", "FAIL" or "left out"), seconds, and in words what was wrong
"""
import os
import re
import subprocess
import sys
import time
import traceback
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "end_to_end"))
import harness  # noqa: E402
import owners_root_test  # noqa: E402
from harness import MEMTRACE, MIB, NOBODY, PYTHON, RELEASE, WORKLOADS, RootTest, lines_of, load, python_process, \
    resident_bytes, wait_until  # noqa: E402

CAPABILITIES = ("bpf", "perfmon", "sys_ptrace", "checkpoint_restore", "dac_read_search")
STEPWISE = os.path.join(WORKLOADS, "stepwise_deepcopy.py")
TREE_3_13 = os.path.join(harness.ROOT, "build", "pythons", "3.13")
USERS = {
    "root": [],
    "nobody with the five capabilities": NOBODY + [
        f"--{which}-caps=" + ",".join("+" + name for name in CAPABILITIES) for which in ("inh", "ambient")],
    "nobody": NOBODY,
}


def line_with(file, text):
    with open(file) as opened:
        return next(number for number, line in enumerate(opened, 1) if line.strip().startswith(text))


class KernelTest(RootTest):
    def close_to(self, ours, truth, what):
        self.assertLessEqual(abs(ours - truth), max(abs(truth) // 100, 64 << 10), f"{what}: {ours} is not {truth}")

    def children_of(self, pid):
        with open(f"/proc/{pid}/task/{pid}/children") as file:
            return [int(word) for word in file.read().split()]

    def steps(self, process, pid):
        """What the pages of stepwise_deepcopy.py amount to at each of its steps, by the page tables."""
        found = []
        for _ in range(6):
            self.assertEqual(process.stdout.readline(), "step\n")
            found.append(resident_bytes(pid()))
            process.stdin.write("\n")
            process.stdin.flush()
        return found

    def compare_deepcopy(self, report, resident, file=STEPWISE):
        """The four lines, against the resident set before and after each."""
        self.assert_conserved(report)
        _, before, made, copied, deleted, dropped = resident
        process = python_process(report, os.path.basename(file))
        rows = lines_of(process, file, "function")
        for text, truth in (("x = list", made - before), ("y = copy", copied - made), ("del x", deleted - copied)):
            self.close_to(rows[line_with(file, text)]["increment_bytes"], truth, text)
        given = [row["bytes"] for row in process["returns"]
                 if row["function"] == "<module>" and row["line"] == line_with(file, "function()")]
        self.close_to(sum(given), deleted - dropped, "the caller's drop")
        return process

    def deepcopy(self, *options, python=(PYTHON,), file=STEPWISE, inside=None, prefix=()):
        """The process's part of the report, whose four lines are right."""
        tracer = self.start(*prefix, *self.memtrace_run(*options), "--", *python, "-B", inside or file,
                            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        resident = self.steps_or_errors(tracer, lambda: self.children_of(tracer.pid)[0])
        tracer.stdin.close()
        self.assertEqual(tracer.wait(timeout=120), 0, tracer.stderr.read())
        return self.compare_deepcopy(self.read_report(), resident, file)

    def steps_or_errors(self, tracer, pid):
        try:
            return self.steps(tracer, pid)
        except (AssertionError, OSError, IndexError):
            if tracer.wait(timeout=60):
                self.fail(tracer.stderr.read())
            raise


class LoadsTest(KernelTest):
    """The kernel takes the programs of each option, and they count something."""

    def run_with(self, *options):
        report = self.run_report(PYTHON, "-c", "import json, decimal, gc\nfor i in range(9000): x = [i]\ngc.collect()",
                                 options=options)
        self.assertEqual(report["lost_events"], 0, report["failures"])
        process = report["processes"][0]
        self.assertGreater(process["rss"]["grown_bytes"], MIB)
        return process

    def test_default(self):
        self.run_with()

    def test_rss_source_classic(self):
        self.run_with("--rss-source", "classic")

    def test_owners(self):
        self.assertTrue(self.run_with("--owners")["resident"]["lines"])

    def test_imports(self):
        self.assertTrue(self.run_with("--imports")["imports"])

    def test_line_engine(self):
        self.assertGreaterEqual(sum(row["occurrences"] for row in self.run_with("--engine", "line")["lines"]), 9000)

    def test_calls(self):
        self.assertTrue(self.run_with("--engine", "line", "--calls")["function_calls"])

    def test_everything_at_once(self):
        self.run_with("--engine", "line", "--calls", "--owners", "--imports")

    def test_garbage_collections(self):
        self.assertGreater(sum(row["count"] for row in self.run_with()["gc"]["generations"]), 0)


class DeepcopyTest(KernelTest):
    """The four lines of the deepcopy case, within 1 % or 64 KiB of what the page tables say."""

    def test_lines(self):
        self.deepcopy()

    def test_rss_source_classic(self):
        self.deepcopy("--rss-source", "classic")

    def test_owners(self):
        self.deepcopy("--owners")

    def test_line_engine(self):
        with open(STEPWISE) as file:
            smaller = self.write("stepwise_deepcopy.py", file.read().replace("1000000", "50000"))
        process = self.deepcopy("--engine", "line", file=smaller)
        self.assertEqual(lines_of(process, smaller, "function")[line_with(smaller, "del x")]["occurrences"], 1)

    def test_python_3_13(self):
        self.assertTrue(os.path.exists(TREE_3_13), "scripts/pythons was not run")
        *chroot, _, file = harness.Interpreter("Debian 3.13", "/usr/bin/python3.13", TREE_3_13).command(STEPWISE)
        self.deepcopy(python=chroot, inside=file)

    def test_attached(self):
        target = self.start(PYTHON, "-B", STEPWISE, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        tracer = self.attach("-p", str(target.pid))
        self.assertIsNone(tracer.poll(), tracer.stderr.read() if tracer.poll() is not None else "")
        resident = self.steps(target, lambda: target.pid)
        target.wait(timeout=60)
        self.compare_deepcopy(self.finish(tracer, number=None), resident)


class SplitCountersTest(KernelTest):
    """Before Linux 6.2 each thread keeps up to 63 changes to itself."""

    def test_a_call_that_changes_nothing_is_charged_with_nothing(self):
        file = os.path.join(WORKLOADS, "close_after_touch.py")
        for source in ("auto", "classic"):
            with self.subTest(source=source):
                options = ("--rss-source", source)
                report = self.run_report(PYTHON, "-S", file, options=options)
                self.assert_conserved(report)
                process = python_process(report, file)
                touched = lines_of(process, file, "touch").get(line_with(file, "memory[offset]"), {"grown_bytes": 0})
                closed = lines_of(process, file, "close").get(line_with(file, "memory.close()"), {"grown_bytes": 0})
                self.assertLessEqual(closed["grown_bytes"], 8192)
                self.assertLessEqual(abs(touched["grown_bytes"] - 40 * 4096), 8192, touched["grown_bytes"])

    def test_threads_that_live_on_are_not_missing(self):
        file = os.path.join(WORKLOADS, "touch_and_wait.py")
        target = self.start(PYTHON, file, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.assertEqual(target.stdout.readline(), "ready\n")
        before = resident_bytes(target.pid)
        report = self.trace_step(target)
        after = resident_bytes(target.pid)
        process = report["processes"][0]
        grown = lines_of(process, file, "touch").get(line_with(file, "memory[offset]"), {"grown_bytes": 0})["grown_bytes"]
        self.close_to(process["rss"]["end_bytes"], after, "the end's balance")
        self.close_to(process["rss"]["grown_bytes"] - process["rss"]["returned_bytes"], after - before, "growth")
        # Each thread may touch a page of its stack there too.
        self.assertLessEqual(abs(grown - 16 * 40 * 4096), 16 * 4096 + (64 << 10), grown)


class OwnersTest(owners_root_test.OwnersTest):
    """Its target knows who touched each single page, so it must get no huge ones that it did not ask for."""

    def setUp(self):
        super().setUp()
        file = "/sys/kernel/mm/transparent_hugepage/enabled"
        with open(file) as setting:
            before = re.search(r"\[(\w+)\]", setting.read())[1]
        self.set_huge_pages(file, "madvise")
        self.addCleanup(self.set_huge_pages, file, before)

    def set_huge_pages(self, file, when):
        with open(file, "w") as setting:
            setting.write(when)


class ThreadsTest(KernelTest):
    def test_nothing_is_lost(self):
        for _ in range(2):
            self.assert_conserved(self.run_report(PYTHON, os.path.join(WORKLOADS, "threads.py")))


class ExplainTest(KernelTest):
    def test_adds_up_to_the_page_tables(self):
        target = self.start_python("import sys\nx = [str(i) for i in range(100000)]\nb = bytearray(8 << 20)\n"
                                   "print('ready', flush=True)\nsys.stdin.readline()\n")
        for options in ((), ("--freeze",)):
            with self.subTest(options=options):
                found = self.explain(target.pid, *options)
                self.close_to(found["rss_bytes"], resident_bytes(target.pid), "RSS")
                self.assertGreater(next(row["objects"] for row in found["objects"]["types"] if row["type"] == "str"),
                                   100_000)


class UsersTest(KernelTest):
    """What doctor says to a user is what happens to that user."""

    def setUp(self):
        super().setUp()
        os.chmod(self.scratch, 0o777)

    def doctor_agrees(self, user):
        """Whether both doctor and run say yes."""
        prefix = USERS[user]
        doctor = subprocess.run([*prefix, MEMTRACE, "doctor"], capture_output=True, text=True, timeout=120)
        self.assertIn(doctor.returncode, (0, 1), doctor.stderr)
        run = subprocess.run([*prefix, *self.memtrace_run(), "--", PYTHON, "-c", "x = bytearray(1 << 20)"],
                             capture_output=True, text=True, timeout=120)
        self.assertEqual(doctor.returncode == 0, run.returncode == 0,
                         f"doctor's status is {doctor.returncode}, run's {run.returncode}: {run.stderr.strip()}")
        return doctor.returncode == 0

    def test_doctor_agrees_for_root(self):
        self.doctor_agrees("root")

    def test_doctor_agrees_for_nobody(self):
        self.assertFalse(self.doctor_agrees("nobody"))

    def test_doctor_agrees_for_nobody_with_the_five_capabilities(self):
        self.doctor_agrees("nobody with the five capabilities")

    def five_capabilities(self):
        """How to run something with them; skips where they cannot be enough."""
        prefix = USERS["nobody with the five capabilities"]
        done = subprocess.run([*prefix, *self.memtrace_run(), "--", "/bin/true"], capture_output=True, text=True, timeout=120)
        # Before Linux 5.11 what BPF programs use counts as locked memory, of which a user may have little.
        if done.returncode and RELEASE < (5, 11):
            self.assertRegex(done.stderr, "cap_sys_resource|RLIMIT_MEMLOCK|locked memory")
            self.skipTest(done.stderr.strip())
        self.assertEqual(done.returncode, 0, done.stderr)
        return prefix

    def test_five_capabilities_do_for_run(self):
        process = self.deepcopy(prefix=self.five_capabilities())
        if RELEASE >= (6, 6):
            self.assertIsNotNone(process["gc"])

    def test_five_capabilities_do_for_attach(self):
        target = self.start_python("import sys\nprint('ready', flush=True)\nsys.stdin.readline()\n"
                                   "x = bytearray(30 << 20)\nx[::4096] = bytes(len(x[::4096]))\n"
                                   "print('done', flush=True)\nsys.stdin.readline()\n")
        tracer = self.start(*self.five_capabilities(), MEMTRACE, "-q", "--format", "json", "-o",
                            self.path("report.json"), "-p", str(target.pid), stderr=subprocess.PIPE, text=True)
        wait_until(lambda: tracer.poll() is not None or harness.is_attached(tracer.pid))
        target.stdin.write("\n")
        target.stdin.flush()
        self.assertEqual(target.stdout.readline(), "done\n")
        report = self.finish(tracer)
        self.assert_conserved(report)
        self.close_to(report["processes"][0]["rss"]["end_bytes"], resident_bytes(target.pid), "the end's balance")


HERE = "kernel_test."
CONSERVATION = "conservation_root_test.ConservationTest."
# What a table's row shows, and the tests that it takes. Those of tests/end_to_end run here as they do anywhere.
QUICK = {
    "loads": [HERE + "LoadsTest." + name for name in (
        "test_default", "test_garbage_collections", "test_rss_source_classic", "test_owners", "test_imports",
        "test_line_engine", "test_calls")],
    "deepcopy, four lines": [HERE + "DeepcopyTest.test_lines"],
}
FULL = QUICK | {
    "loads everything at once": [HERE + "LoadsTest.test_everything_at_once"],
    "deepcopy, other ways": [HERE + "DeepcopyTest." + name for name in (
        "test_rss_source_classic", "test_owners", "test_line_engine", "test_attached")],
    "deepcopy, Python 3.13": [HERE + "DeepcopyTest.test_python_3_13"],
    "conservation": [CONSERVATION + name for name in (
        "test_threads", "test_fork", "test_exec", "test_programs_that_nothing_interrupts", "test_madvise",
        "test_shared_memory", "test_mremap_growth", "test_file_mapping", "test_subprocesses",
        "test_the_classic_tracepoint_counts_the_same", "test_bpf_calls_that_are_preempted")],
    "changes that threads keep": [HERE + "SplitCountersTest." + name for name in (
        "test_a_call_that_changes_nothing_is_charged_with_nothing", "test_threads_that_live_on_are_not_missing")],
    "attach": [CONSERVATION + "test_attach_agrees_with_the_page_tables"],
    "explain": [HERE + "ExplainTest.test_adds_up_to_the_page_tables"],
    "--owners": [HERE + "OwnersTest.test_every_page_is_its_toucher_s"],
    "line engine": ["line_engine_root_test.LineEngineTest.test_occurrences_equal_settrace"],
    "--calls": ["function_calls_root_test.FunctionCallsTest.test_equal_to_setprofile_on_3_11_with_the_line_engine"],
    "--imports": ["imports_root_test.ImportsTest.test_tree_and_sum"],
    "doctor is right": [HERE + "UsersTest." + name for name in (
        "test_doctor_agrees_for_root", "test_doctor_agrees_for_nobody",
        "test_doctor_agrees_for_nobody_with_the_five_capabilities")],
    "five capabilities do": [HERE + "UsersTest." + name for name in (
        "test_five_capabilities_do_for_run", "test_five_capabilities_do_for_attach")],
}
# For other numbers of processors, and for a kernel that can be preempted.
THREADS = {
    "deepcopy, four lines": QUICK["deepcopy, four lines"],
    "conservation": [HERE + "ThreadsTest.test_nothing_is_lost", CONSERVATION + "test_fork", CONSERVATION + "test_madvise",
                     CONSERVATION + "test_bpf_calls_that_are_preempted"],
    "attach": FULL["attach"],
}
LEVELS = {"quick": QUICK, "full": FULL, "threads": THREADS}


class Results(unittest.TestResult):
    """Remembers in words what became of one test, and of its parts."""

    def __init__(self):
        super().__init__()
        self.words = []

    def addError(self, test, error):
        super().addError(test, error)
        self.words.append(str(error[1]))
        traceback.print_exception(*error)

    addFailure = addError

    def addSubTest(self, test, subtest, error):
        super().addSubTest(test, subtest, error)
        if error:
            self.words.append(str(error[1]))
            traceback.print_exception(*error)

    def outcome(self):
        if self.wasSuccessful():
            return "left out" if self.skipped else "ok"
        # What memtrace says that this kernel is too old for is not asked of it.
        needed = re.search(r"needs Linux (\d+)\.(\d+) or later", " ".join(self.words))
        return "left out" if needed and RELEASE < (int(needed[1]), int(needed[2])) else "FAIL"


def main():
    os.environ["CI"] = "1"  # what cannot run is a failure
    unittest.TestCase.maxDiff = None
    failed = False
    for what, tests in LEVELS[sys.argv[1]].items():
        for test in tests:
            results, begun = Results(), time.monotonic()
            unittest.defaultTestLoader.loadTestsFromName(test).run(results)
            words = " ".join(" ".join(results.words or [reason for _, reason in results.skipped]).split())
            words = words if len(words) < 300 else "..." + words[-300:]  # what was said last is why
            outcome = results.outcome()
            print("result", what, test.rpartition(".")[2], outcome, f"{time.monotonic() - begun:.1f}", words, sep="\t",
                  flush=True)
            failed = failed or outcome == "FAIL"
    sys.exit(failed)


if __name__ == "__main__":
    main()
