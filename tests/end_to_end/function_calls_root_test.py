"""--calls: how often each function is called, compared with what sys.setprofile counts."""
import json
import os
import subprocess

from harness import PYTHON, WORKLOADS, RootTest, python_process

LINES = os.path.join(WORKLOADS, "lines.py")


class FunctionCallsTest(RootTest):
    def compare_with_setprofile(self, python, *options):
        """memtrace's rows of the workload's own functions."""
        expected = json.loads(subprocess.run([python, "-B", LINES, "setprofile"], capture_output=True, text=True,
                                             check=True).stdout)
        report = self.run_report(python, "-B", LINES, options=("--calls", *options))
        self.assert_conserved(report)
        calls = python_process(report, "lines.py")["function_calls"]
        rows = [row for row in calls if os.path.basename(row["file"]) == "lines.py"]
        seen = {}
        for row in rows:
            name = row["function"].rpartition(".")[2]
            seen[name] = seen.get(name, 0) + row["count"]
        self.assertEqual(seen.pop("<module>"), 1)
        self.assertGreater(sum(expected.values()), 1000)
        self.assertEqual(seen, expected)
        self.assertEqual([row["count"] for row in calls], sorted((row["count"] for row in calls), reverse=True))
        return rows

    def test_equal_to_setprofile_on_3_9(self):
        rows = self.compare_with_setprofile(self.python_3_9())
        # Four generators are started at their first line and go on at the yield, two lines below.
        resumed, started = sorted((row["line"], row["count"]) for row in rows if row["function"] == "generate")[::-1]
        self.assertEqual(started[1], 4)
        self.assertEqual(resumed, (started[0] + 2, 242))

    def test_equal_to_setprofile_on_3_11_with_the_line_engine(self):
        rows = self.compare_with_setprofile(PYTHON, "--engine", "line")
        self.assertIn(1000, [row["count"] for row in rows if row["function"].endswith("area")])

    def test_grown_bytes_are_the_functions_own(self):
        source = "def grow(kept):\n    kept.append(bytearray(1 << 20))\nkept = []\nfor _ in range(20):\n    grow(kept)\n"
        report = self.run_report(PYTHON, self.write("grow.py", source), options=("--calls", "--engine", "line"))
        row = next(row for row in python_process(report, "grow.py")["function_calls"] if row["function"] == "grow")
        self.assertEqual((row["line"], row["count"]), (1, 20))
        self.assertAlmostEqual(row["grown_bytes"], 20 << 20, delta=1 << 20)

    def test_refused_where_nothing_would_be_counted(self):
        done = self.memtrace("run", "--calls", "--", PYTHON, "-c", "print('ran')", check=False)
        self.assertEqual((done.returncode, done.stdout), (125, ""))
        self.assertIn("add --engine line", done.stderr)
        without = self.path("python3.11")
        subprocess.run(["objcopy", "--remove-section", ".note.stapsdt", PYTHON, without], check=True)
        done = self.memtrace("run", "--calls", "--", without, "-c", "print('ran')", check=False)
        self.assertEqual((done.returncode, done.stdout), (125, ""))
        self.assertIn("no python:function__entry probe", done.stderr)

    def test_null_unless_asked_for(self):
        report = self.run_report(PYTHON, "-c", "pass")
        self.assertIsNone(report["processes"][0]["function_calls"])

    def test_it_says_what_it_costs_and_shows_the_most_called(self):
        done = self.memtrace("run", "-q", "--calls", "-o", self.path("report"), "--", self.python_3_9(), "-B", LINES)
        self.assertIn("makes every call of a Python function", done.stderr)
        with open(self.path("report")) as file:
            shown = file.read().partition("Functions called most")[2].splitlines()
        self.assertRegex(shown[2], r"^ +1000 .*lines.py:\d+  area$")
