"""What the report says, in both formats."""
import os
import subprocess
import unittest

import jsonschema

from harness import DEEPCOPY, PYTHON, SCHEMA, WORKLOADS, RootTest, lines_of, load, python_process

RECURSIVE = """
def down(n):
    kept = bytearray(1 << 20)
    if n:
        down(n - 1)
    return kept
down(10)
"""

TWO_CALLERS = """
def make():
    return bytearray(3 << 20)
def main():
    a = make()
    b = make()
    b = None
    c = make()
    return a, c
main()
"""

SUB_COMPREHENSION = """
class Keeper:
    def fill(self):
        self.rows = [bytearray(100_000) for _ in range(100)]
def walk():
    for i in range(3):
        yield bytearray(2 << 20)
Keeper().fill()
kept = list(walk())
"""


class ReportTest(RootTest):
    def test_json_is_what_the_schema_says(self):
        schema = load(SCHEMA)
        jsonschema.Draft202012Validator.check_schema(schema)
        validator = jsonschema.Draft202012Validator(schema)
        for command in ([PYTHON, DEEPCOPY], [PYTHON, os.path.join(WORKLOADS, "fork.py")], ["/bin/true"]):
            report = self.run_report(*command)
            self.assertEqual([error.message for error in validator.iter_errors(report)], [])
        # The check can fail.
        report["processes"][0]["rss"]["grown_bytes"] = None
        self.assertTrue(list(validator.iter_errors(report)))

    def test_probes_that_may_be_used(self):
        probes = ["audit", "function__entry", "function__return", "gc__done", "gc__start", "import__find__load__done",
                  "import__find__load__start", "line"]
        forking = os.path.join(WORKLOADS, "fork.py")
        for process in self.run_report(PYTHON, forking)["processes"]:
            self.assertEqual(process["python"]["usdt"], probes)
        without = self.path("python3.11")
        subprocess.run(["objcopy", "--remove-section", ".note.stapsdt", PYTHON, without], check=True)
        self.assertEqual(self.run_report(without, "-c", "pass")["processes"][-1]["python"]["usdt"], [])

    def test_table(self):
        done = self.memtrace("run", "-q", "--", PYTHON, DEEPCOPY)
        self.assertEqual(done.stdout, "")
        table = done.stderr
        self.assertRegex(table, r"(?m)^process \d+: .*deepcopy\.py \| CPython 3\.11\.\d+ \| stack engine \| .* lost events: 0$")
        self.assertRegex(table, r"(?m)^RSS from 0\.00 MiB to .* bytes unexplained$")
        self.assertIn("Line #      Mem usage     Increment         Grown      Returned   Line Contents", table)
        self.assertRegex(table, r"(?m)^ +3 +[\d.]+ MiB +38\.\d\d MiB .*x = list\(range\(1000000\)\)")
        self.assertRegex(table, r"(?m)^ +5 +[\d.]+ MiB +-7\.63 MiB .*del x$")
        self.assertRegex(table, r"(?m)^ +8003584 +7\.63 +1  munmap +.*deepcopy\.py:5  function$")
        self.assertRegex(table, r"(?m)^pymalloc arenas of 1024 KiB: \d+ created, \d+ released$")
        # A line of the function that nothing was charged to is printed all the same.
        self.assertRegex(table, r"(?m)^ +6 +return y$")

    def test_function_and_file_choose(self):
        report = self.run_report(PYTHON, DEEPCOPY, options=["--function", "function"])
        self.assertEqual({row["function"] for p in report["processes"] for row in p["lines"]}, {"function"})
        report = self.run_report(PYTHON, DEEPCOPY, options=["--file", "copy.py"])
        self.assertEqual({os.path.basename(row["file"]) for p in report["processes"] for row in p["lines"]}, {"copy.py"})

    def test_recursion_is_counted_once(self):
        file = self.write("recursive.py", RECURSIVE)
        rows = lines_of(python_process(self.run_report(PYTHON, file), file), file, "down")
        self.assertAlmostEqual(rows[3]["grown_bytes"], 11 << 20, delta=128 << 10)
        self.assertAlmostEqual(rows[5]["grown_bytes"], 10 << 20, delta=128 << 10)

    def test_one_function_called_from_two_lines(self):
        # The innermost frame is the same at each call, at the same address: only the caller tells them apart.
        file = self.write("callers.py", TWO_CALLERS)
        rows = lines_of(python_process(self.run_report(PYTHON, file), file), file, "main")
        for line in (5, 6, 8):
            self.assertAlmostEqual(rows[line]["grown_bytes"], 3 << 20, delta=128 << 10)
        self.assertAlmostEqual(rows[7]["returned_bytes"], 3 << 20, delta=128 << 10)

    def test_methods_comprehensions_and_generators(self):
        file = self.write("shapes.py", SUB_COMPREHENSION)
        process = python_process(self.run_report(PYTHON, file), file)
        for function, line, size in (("Keeper.fill", 4, 10_000_000), ("walk", 7, 6 << 20),
                                     ("Keeper.fill.<locals>.<listcomp>", 4, 10_000_000), ("<module>", 9, 6 << 20)):
            with self.subTest(function=function):
                self.assertAlmostEqual(lines_of(process, file, function)[line]["grown_bytes"], size, delta=512 << 10)

    def test_names_that_are_not_ascii(self):
        name = "größe_名前.py"
        file = self.write(name, "def größer():\n    return bytearray(5 << 20)\nx = größer()\n")
        rows = lines_of(python_process(self.run_report(PYTHON, file), name), name, "größer")
        self.assertAlmostEqual(rows[2]["grown_bytes"], 5 << 20, delta=128 << 10)
        self.assertEqual(rows[2]["source"], "    return bytearray(5 << 20)")

    def test_several_processes_at_once(self):
        source = "import sys\nprint('ready', flush=True)\nsys.stdin.readline()\nx = bytearray({} << 20)\n" \
                 "print('done', flush=True)\nsys.stdin.readline()\n"
        targets = [self.start_python(source.format(size)) for size in (3, 9)]
        tracer = self.attach("-p", str(targets[0].pid), "-p", str(targets[1].pid))
        for target in targets:
            target.stdin.write("\n")
            target.stdin.flush()
            target.stdout.readline()
        report = self.finish(tracer)
        self.assert_conserved(report)
        grown = {p["pid"]: p["rss"]["grown_bytes"] >> 20 for p in report["processes"]}
        self.assertEqual(grown, {targets[0].pid: 3, targets[1].pid: 9})

    def test_a_source_that_the_target_may_not_read_is_not_shown(self):
        secret = self.write("secret", "the secret\n" * 10)
        os.chmod(secret, 0o600)
        os.chmod(self.scratch, 0o755)
        # What setpriv starts has to be found first.
        program = f"import time\ntime.sleep(1)\ncode = compile('x = bytearray(4 << 20)', {secret!r}, 'exec')\nexec(code)\n"
        file = self.write("program.py", program)
        command = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", PYTHON, file]
        rows = lines_of(python_process(self.run_report(*command), file), secret, "<module>")
        self.assertAlmostEqual(rows[1]["grown_bytes"], 4 << 20, delta=128 << 10)
        self.assertIsNone(rows[1]["source"])

    def test_a_status_line_on_a_terminal(self):
        program = self.write("slow.py", "import time\nx = bytearray(30 << 20)\ntime.sleep(2.5)\n")
        done = self.memtrace_on_terminal("run", "-o", "/dev/null", "--", PYTHON, program)
        self.assertRegex(done, r"\d s \| RSS [34]\d\.\d\d MiB \| grown [\d.]+ MiB \| returned [\d.]+ MiB \| lost events 0")
        quiet = self.memtrace_on_terminal("run", "-q", "-o", "/dev/null", "--", PYTHON, program)
        self.assertNotIn("RSS", quiet)
        narrow = self.memtrace_on_terminal("run", "-o", "/dev/null", "--", PYTHON, program, columns=30)
        lines = [line for line in narrow.split("\r") if "RSS" in line]
        self.assertTrue(lines)
        self.assertLessEqual(max(map(len, lines)), 29, lines)


if __name__ == "__main__":
    unittest.main()
