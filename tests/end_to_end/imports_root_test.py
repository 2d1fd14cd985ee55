"""What imports cost, against what the process measures of itself and the interpreter's own -X importtime."""
import collections
import re

from harness import PYTHON, RootTest, load

PROGRAM = """
import sys
def resident():
    with open("/proc/self/smaps_rollup") as file:
        file.readline()
        return int(file.readline().split()[1]) << 10
before = resident()
import json
import decimal
import asyncio
import email
after = resident()
print(after - before)
"""


def paths_of(imports, above=()):
    """Every module as the path of modules that led to it."""
    for row in imports:
        path = (*above, row["module"])
        yield path
        yield from paths_of(row["imports"], path)


def importtime_paths(text):
    """The same from -X importtime, which prints a module when it is done, after what it pulled in."""
    waiting = []  # (depth, tree) whose parent has not been printed yet
    for line in text.splitlines():
        match = re.match(r"import time:\s+\d+ \|\s+\d+ \| ( *)(\S+)", line)
        if match:
            depth = len(match[1]) // 2
            below = [tree for level, tree in waiting if level > depth]
            waiting = [(level, tree) for level, tree in waiting if level <= depth]
            waiting.append((depth, {"module": match[2], "imports": below}))
    return list(paths_of(tree for _, tree in waiting))


class ImportsTest(RootTest):
    def test_tree_and_sum(self):
        done = self.memtrace("run", "-q", "--imports", "--format", "json", "-o", self.path("report"), "--", PYTHON, "-X",
                             "importtime", self.write("program.py", PROGRAM))
        report = load(self.path("report"))
        self.assert_conserved(report)
        imports = report["processes"][0]["imports"]
        ours, theirs = collections.Counter(paths_of(imports)), collections.Counter(importtime_paths(done.stderr))
        self.assertGreater(len(theirs), 100)
        self.assertEqual(ours, theirs)
        named = [row for row in imports if row["module"] in ("json", "decimal", "asyncio", "email")]
        self.assertEqual(len(named), 4)
        grown = int(done.stdout)
        self.assertGreater(grown, 4 << 20)
        self.assertAlmostEqual(sum(row["total_bytes"] for row in named), grown, delta=grown * 0.05)
        for row in named:
            self.assertEqual(row["own_bytes"] + sum(below["total_bytes"] for below in row["imports"]), row["total_bytes"])

    def test_what_is_not_found_is_said(self):
        report = self.run_report(PYTHON, "-c", "import json\ntry:\n    import no_such_module\nexcept ImportError:\n    pass",
                                 options=("--imports",))
        found = {row["module"]: row["found"] for row in report["processes"][0]["imports"]}
        self.assertTrue(found["json"])
        self.assertFalse(found["no_such_module"])

    def test_null_unless_asked_for(self):
        self.assertIsNone(self.run_report(PYTHON, "-c", "import json")["processes"][0]["imports"])

    def test_the_table_has_a_tree(self):
        done = self.memtrace("run", "-q", "--imports", "--", PYTHON, "-c", "import asyncio")
        self.assertRegex(done.stderr, r"(?m)^ +\d+\.\d\d MiB +\d+\.\d\d MiB +\d+\.\d ms   asyncio$")
        self.assertRegex(done.stderr, r"(?m) ms     asyncio\.\w+$")
