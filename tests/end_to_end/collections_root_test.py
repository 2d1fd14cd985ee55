"""Garbage collections, against what gc.get_stats() and gc.callbacks say inside the process."""
import json
import os
import shutil
import subprocess
import unittest

from harness import PYTHON, ROOT, RootTest

NEWER = os.path.join(ROOT, "build", "pythons", "3.13")  # scripts/pythons
# Collects by itself and when told to, between "ready" and the second line it reads; then prints what gc says of it.
TARGET = """
import gc, json, sys, time

class Node:
    def __init__(self):
        self.self = self

def trigger():
    for _ in range(50000):
        Node()

def collect():
    gc.collect()

pauses, cpu, begun = [0, 0, 0], [0, 0, 0], [0, 0]
def callback(phase, info):
    if phase == "start":
        begun[:] = time.thread_time_ns(), time.perf_counter_ns()
    else:
        pauses[info["generation"]] += time.perf_counter_ns() - begun[1]
        cpu[info["generation"]] += time.thread_time_ns() - begun[0]

kept = [[i] for i in range(500000)]
gc.collect()
print("ready", flush=True)
sys.stdin.readline()
before = gc.get_stats()
gc.callbacks.append(callback)
trigger()
for _ in range(5):
    collect()
gc.callbacks.remove(callback)
after = gc.get_stats()
print(json.dumps([{"generation": i, "count": b["collections"] - a["collections"], "objects": b["collected"] - a["collected"],
                   "pause_ns": pauses[i], "cpu_ns": cpu[i]} for i, (a, b) in enumerate(zip(before, after))]), flush=True)
sys.stdin.readline()
"""
# Modules' code objects, of which each collects once and is gone a moment later.
SHORT_LIVED = """
for i in range(200):
    exec(compile("import gc\\ngc.collect(0)\\n" + i * "x = 1\\n", f"/nowhere/{i}.py", "exec"), {})
    junk = [bytearray(300) for _ in range(300)]
"""


class CollectionsTest(RootTest):
    def compare(self, target):
        """memtrace's own account of the target's collections, having compared it with the target's."""
        tracer = self.attach("-p", str(target.pid))
        target.stdin.write("go\n")
        target.stdin.flush()
        expected = json.loads(target.stdout.readline())
        report = self.finish(tracer)
        self.assert_conserved(report)
        found = report["processes"][0]["gc"]
        seen = {row["generation"]: row for row in found["generations"]}
        self.assertGreaterEqual(expected[2]["count"], 5)
        self.assertGreater(expected[0]["count"], 10)
        for row in expected:
            if not row["count"]:
                continue
            ours = seen[row["generation"]]
            self.assertEqual((ours["count"], ours["objects"]), (row["count"], row["objects"]), row)
            self.assertEqual(sum(bucket["count"] for bucket in ours["pauses"]), row["count"])
            # Callbacks are made before the collection's beginning and after its end. Another process may run between, which
            # is no part of a pause, and no time of ours.
            self.assertLessEqual(ours["pause_ns"], row["pause_ns"])
            self.assertGreaterEqual(ours["pause_ns"], row["cpu_ns"] * 0.8 - row["count"] * 20_000)
        return found

    def test_debians_interpreter(self):
        found = self.compare(self.start_python(TARGET))
        lines = {row["function"]: row for row in found["lines"] if row["function"]}
        self.assertEqual((lines["collect"]["line"], lines["collect"]["count"]), (13, 5))
        self.assertGreater(lines["Node.__init__"]["count"] if "Node.__init__" in lines else lines["trigger"]["count"], 10)

    def test_a_newer_interpreter(self):
        if not os.path.exists(NEWER):
            self.assertFalse(os.environ.get("CI"), "scripts/pythons was not run")
            raise unittest.SkipTest("needs scripts/pythons 3.13")
        inside = os.path.join(NEWER, "tmp", f"collections_{os.getpid()}.py")
        shutil.copy(self.write("target.py", TARGET), inside)
        self.addCleanup(os.remove, inside)
        target = self.start("chroot", NEWER, "/usr/bin/python3.13", "-B", "/tmp/" + os.path.basename(inside),
                            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        target.stdout.readline()
        self.compare(target)

    def test_null_where_there_are_no_probes(self):
        without = self.path("python3.11")
        subprocess.run(["objcopy", "--remove-section", ".note.stapsdt", PYTHON, without], check=True)
        report = self.run_report(without, "-c", "import gc; gc.collect()")
        self.assertIsNone(report["processes"][0]["gc"])

    def test_from_the_first_instruction(self):
        report = self.run_report(PYTHON, "-c", "import gc; [gc.collect() for _ in range(7)]")
        # When the interpreter ends it collects, and runs no line.
        self.assertIn("[no python frame]", [row["owner"] for row in report["processes"][0]["gc"]["lines"]])
        rows = {row["generation"]: row for row in report["processes"][0]["gc"]["generations"]}
        self.assertGreaterEqual(rows[2]["count"], 7)

    def test_code_that_is_gone_a_moment_later(self):
        report = self.run_report(PYTHON, self.write("short_lived.py", SHORT_LIVED), options=["--no-look"])
        self.assertEqual(report["failures"], {})
        places = [row for row in report["processes"][0]["gc"]["lines"] if "/nowhere/" in (row["file"] or "")]
        self.assertGreater(len(places), 100)  # fewer than 200: one may lie where another has
        self.assertEqual({(row["function"], row["line"]) for row in places}, {("<module>", 2)})
