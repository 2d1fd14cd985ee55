"""The line engine: exact occurrences, the same bytes as the stack engine, and no trace left behind."""
import json
import os
import re
import signal
import struct
import subprocess
import time

from harness import DEEPCOPY, MEMTRACE, PYTHON, SLACK, WORKLOADS, RootTest, lines_of, python_process, wait_until

LINES = os.path.join(WORKLOADS, "lines.py")
LINE_ENGINE = ("--engine", "line")
# Counts its own steps for ever, once a second of work or so.
BUSY = """
import sys
def work(n):
    total = 0
    for i in range(n):
        total += i
    return total
print("ready", flush=True)
while True:
    work(20000)
    print("step", flush=True)
"""


def semaphore_address(probe):
    """Where the interpreter keeps a probe's semaphore; Debian's is not position independent."""
    notes = subprocess.run(["readelf", "-n", "-W", PYTHON], capture_output=True, text=True, check=True).stdout
    return int(re.search(rf"Name: {probe}\n.*Semaphore: (0x[0-9a-f]+)", notes)[1], 16)


def read_semaphore(pid, address):
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        memory.seek(address)
        return struct.unpack("<H", memory.read(2))[0]


class LineEngineTest(RootTest):
    def compare_with_settrace(self, python):
        """memtrace's report, having compared its occurrences with what sys.settrace counts."""
        expected = json.loads(subprocess.run([python, "-B", LINES, "settrace"], capture_output=True, text=True,
                                             check=True).stdout)
        report = self.run_report(python, "-B", LINES, options=LINE_ENGINE)
        self.assert_conserved(report)
        seen = {}
        for row in python_process(report, "lines.py")["lines"]:
            if os.path.basename(row["file"]) == "lines.py" and row["occurrences"]:
                key = f'{row["function"].rpartition(".")[2]}:{row["line"]}'
                seen[key] = seen.get(key, 0) + row["occurrences"]
        seen = {key: count for key, count in seen.items() if not key.startswith("<module>:")}
        self.assertGreater(sum(expected.values()), 5000)
        self.assertEqual(seen, expected)
        return report

    def test_occurrences_equal_settrace(self):
        check = self.compare_with_settrace(PYTHON)["line_check"]
        self.assertGreater(check["frames_compared"], 100)
        self.assertLessEqual(check["frames_differing"], check["frames_compared"] // 100)

    def test_occurrences_equal_settrace_on_3_9(self):
        self.compare_with_settrace(self.python_3_9())

    def test_both_engines_agree_on_deepcopy(self):
        by_stack = lines_of(python_process(self.run_report(PYTHON, DEEPCOPY), "deepcopy.py"), DEEPCOPY, "function")
        report = self.run_report(PYTHON, DEEPCOPY, options=LINE_ENGINE)
        self.assert_conserved(report)
        self.assertEqual(report["engine"], "line")
        process = python_process(report, "deepcopy.py")
        by_probe = lines_of(process, DEEPCOPY, "function")
        for line in (3, 4, 5):
            for what in ("grown_bytes", "returned_bytes"):
                self.assertAlmostEqual(by_probe[line][what], by_stack[line][what],
                                       delta=max(SLACK, by_stack[line][what] // 100), msg=f"line {line} {what}")
            self.assertEqual(by_probe[line]["occurrences"], 1)
            self.assertIsNone(by_stack[line]["occurrences"])
        self.assertGreater(sum(row["occurrences"] for row in process["lines"]), 13_000_000)

    def test_attach_in_the_middle(self):
        target = self.start_python(BUSY)
        report = self.finish(self.attach(*LINE_ENGINE, "-p", str(target.pid), "-d", "2"), number=None)
        self.assert_conserved(report)
        rows = lines_of(report["processes"][0], "target.py", "work")
        # 5: for, 6: the addition, each once a turn but for the turn that was cut.
        self.assertGreater(rows[6]["occurrences"], 100_000)
        self.assertAlmostEqual(rows[5]["occurrences"] / rows[6]["occurrences"], 1, delta=0.001)

    def test_killed_it_leaves_nothing_behind(self):
        address = semaphore_address("line")
        target = self.start_python(BUSY)
        for _ in range(20):
            tracer = self.start(MEMTRACE, "-q", *LINE_ENGINE, "-p", str(target.pid), stdout=subprocess.DEVNULL,
                                stderr=subprocess.DEVNULL)
            wait_until(lambda: tracer.poll() is not None or read_semaphore(target.pid, address) == 1)
            self.assertIsNone(tracer.poll())
            time.sleep(0.05)
            tracer.send_signal(signal.SIGKILL)
            tracer.wait()
            wait_until(lambda: read_semaphore(target.pid, address) == 0)
            self.assertEqual(target.stdout.readline(), "step\n")
        self.assertIsNone(target.poll())

    def test_children_are_counted_too(self):
        source = """
import os
def child():
    total = 0
    for i in range(100000):
        total += i
print("start", flush=True)
pid = os.fork()
if pid == 0:
    import time
    time.sleep(1)
    child()
    os._exit(0)
os.waitpid(pid, 0)
"""
        report = self.run_report(PYTHON, self.write("forks.py", source), options=LINE_ENGINE)
        self.assert_conserved(report)
        forked = next(p for p in report["processes"] if p["opened_by"] == "fork")
        self.assertEqual(lines_of(forked, "forks.py", "child")[6]["occurrences"], 100000)

    def test_it_says_what_it_costs(self):
        done = self.memtrace("run", *LINE_ENGINE, "--file", "*", "-o", self.path("report"), "--", PYTHON, "-c", "x = 1")
        self.assertIn("times slower", done.stderr)
        with open(self.path("report")) as file:
            self.assertIn("Occurrences", file.read())

    def test_refused_where_there_is_no_probe(self):
        without = self.path("python3.11")
        subprocess.run(["objcopy", "--remove-section", ".note.stapsdt", PYTHON, without], check=True)
        done = self.memtrace("run", *LINE_ENGINE, "--", without, "-c", "print('ran')", check=False)
        self.assertEqual(done.returncode, 125)
        self.assertEqual(done.stdout, "")
        self.assertRegex(done.stderr, "no python:line probe; the stack engine, without it, gives the same bytes")
        done = self.memtrace("run", "--imports", "--", without, "-c", "print('ran')", check=False)
        self.assertEqual((done.returncode, done.stdout), (125, ""))
        self.assertIn("no python:import__find__load__start probe", done.stderr)
        target = self.start_python("import time\nprint('ready', flush=True)\ntime.sleep(600)\n", python=without)
        done = self.memtrace(*LINE_ENGINE, "-p", str(target.pid), check=False)
        self.assertEqual(done.returncode, 125)
        self.assertIn("no python:line probe", done.stderr)

    def test_a_child_without_the_probe_is_left_to_the_stack_engine(self):
        without = self.path("python3.11")
        subprocess.run(["objcopy", "--remove-section", ".note.stapsdt", PYTHON, without], check=True)
        child = self.write("child.py", "def f():\n    return bytearray(20 << 20)\nimport time; time.sleep(0.5); f()\n")
        report = self.run_report(PYTHON, "-c", "import subprocess, sys; subprocess.run(sys.argv[1:], check=True)",
                                 without, child, options=LINE_ENGINE)
        self.assert_conserved(report)
        row = lines_of(python_process({"processes": report["processes"][1:]}, "child.py"), "child.py", "f")[2]
        self.assertAlmostEqual(row["grown_bytes"], 20 << 20, delta=SLACK)
        self.assertIsNone(row["occurrences"])
