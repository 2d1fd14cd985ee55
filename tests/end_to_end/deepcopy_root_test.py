"""The case that memtrace was born from, checked against memory_profiler on the same interpreter."""
import os
import re
import subprocess
import unittest

from harness import DEEPCOPY, MEMTRACE, MIB, PYTHON, SLACK, RootTest, lines_of, load, python_process

RUNS = 5
MAKE, COPY, DROP, CALL = 3, 4, 5, 8  # lines of deepcopy.py

# The same function in a loop, which also measures itself: smaps_rollup walks the page tables, so it is exact.
LOOP = """
import copy, sys

def resident():
    with open("/proc/self/smaps_rollup") as file:
        file.readline()
        return int(file.readline().split()[1]) << 10

def function(sums):
    a = resident()
    x = list(range(1000000))
    b = resident()
    y = copy.deepcopy(x)
    c = resident()
    del x
    d = resident()
    for i, delta in enumerate((b - a, c - b, d - c)):
        sums[i] += delta
    return y

for _ in range(3):
    function([0, 0, 0])
print("ready", flush=True)
sys.stdin.readline()
sums = [0, 0, 0]
for _ in range(5):
    function(sums)
print(*sums, flush=True)
sys.stdin.readline()
"""


def memory_profiler_increments(scratch):
    """MiB by line, as memory_profiler measures inside the process."""
    with open(DEEPCOPY) as file:
        source = file.read()
    decorated = os.path.join(scratch, "decorated.py")
    with open(decorated, "w") as file:
        file.write(source.replace("def function", "@profile(precision=3)\ndef function", 1)
                   .replace("import copy", "import copy; from memory_profiler import profile", 1))
    table = subprocess.run([PYTHON, decorated], capture_output=True, text=True, check=True).stdout
    found = {}
    for line in table.splitlines():
        match = re.match(r"\s*\d+\s+[\d.]+ MiB\s+(-?[\d.]+) MiB\s+\d+\s+(.*)", line)
        if match:
            found[match[2].split("#")[0].strip()] = float(match[1]) * MIB
    return [found["x = list(range(1000000))"], found["y = copy.deepcopy(x)"], found["del x"]]


class DeepcopyTest(RootTest):
    def close_to(self, ours, theirs):
        self.assertLessEqual(abs(ours - theirs), max(abs(theirs) // 100, SLACK))

    def test_five_runs_agree_with_memory_profiler(self):
        theirs = memory_profiler_increments(self.scratch)
        arenas = []
        for _ in range(RUNS):
            report = self.run_report(PYTHON, DEEPCOPY)
            self.assert_conserved(report)
            process = python_process(report, DEEPCOPY)
            rows = lines_of(process, DEEPCOPY, "function")
            for line, expected in zip((MAKE, COPY, DROP), theirs):
                self.close_to(rows[line]["increment_bytes"], expected)
            # The truth of the interpreter's own making: 1,000,000 pointers and their list's mapping, at one munmap.
            given = [row for row in process["returns"] if row["line"] == DROP and row["function"] == "function"]
            self.assertEqual([(row["how"], row["bytes"], row["count"]) for row in given], [("munmap", 8003584, 1)])
            self.assertEqual(rows[MAKE]["source"].split("#")[0].strip(), "x = list(range(1000000))")
            made = [row for row in process["arenas"]["lines"] if row["line"] == MAKE and row["function"] == "function"]
            arenas += [row["created"] for row in made]
            # What the function returned is dropped by its caller's line.
            dropped = [row for row in process["returns"] if row["line"] == CALL and row["function"] == "<module>"]
            self.assertGreater(sum(row["bytes"] for row in dropped if row["how"] == "munmap"), 36 * MIB)
        # 999,743 ints of 32 bytes, 510 to a pool, 63 or 64 pools to an arena: 30.6 to 31.1 arenas, less what was free
        # in the last one before. (The interpreter's own count is compared below.)
        self.assertTrue(set(arenas) <= {30, 31}, arenas)

    def test_attached_to_a_process_that_has_run_for_a_while(self):
        # With malloc's mmap threshold fixed, every iteration is like the first. Without, lists come from the heap, which
        # may keep them: then only what the process measures itself is the truth.
        for threshold in ("131072", None):
            environment = dict(os.environ)
            if threshold:
                environment["MALLOC_MMAP_THRESHOLD_"] = threshold
            with self.subTest(threshold=threshold):
                target = self.start_python(LOOP, env=environment)
                tracer = self.attach("-p", str(target.pid))
                target.stdin.write("\n")
                target.stdin.flush()
                truth = [int(word) / 5 for word in target.stdout.readline().split()]
                report = self.finish(tracer)
                self.assert_conserved(report)
                rows = lines_of(report["processes"][0], "target.py", "function")
                ours = [rows[line]["increment_bytes"] / 5 if line in rows else 0 for line in (11, 13, 15)]
                for line, (measured, own) in enumerate(zip(ours, truth)):
                    with self.subTest(line=line):
                        self.close_to(measured, own)
                if threshold:  # else lists may come from what the heap keeps: any of these may then be less, or 0
                    self.assertGreater(ours[0], 34 * MIB)
                    self.close_to(ours[1], 7.63 * MIB)
                    self.close_to(ours[2], -8003584)

    def test_arenas_are_those_that_the_interpreter_counts(self):
        file = self.write("counted.py", "import sys\nx = list(range(1000000))\ndel x\nsys._debugmallocstats()\n")
        with open(self.path("stats"), "w+") as stats:
            report = self.path("report.json")
            subprocess.run([MEMTRACE, "run", "-q", "--format", "json", "-o", report, "--", PYTHON, file], stderr=stats,
                           check=True)
            stats.seek(0)
            text = stats.read()
        total = int(re.search(r"# arenas allocated total\s+=\s+([\d,]+)", text)[1].replace(",", ""))
        reclaimed = int(re.search(r"# arenas reclaimed\s+=\s+([\d,]+)", text)[1].replace(",", ""))
        arenas = python_process(load(report), file)["arenas"]
        ended = sum(row["released"] for row in arenas["lines"] if row["owner"])  # as the interpreter ends
        self.assertEqual(arenas["created"], total)
        self.assertEqual(arenas["released"] - ended, reclaimed)


if __name__ == "__main__":
    unittest.main()
