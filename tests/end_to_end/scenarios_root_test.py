# Small programs whose memory has a known cause (tests/scenarios): memtrace explain must name it first, with its bytes, and
# what it says would help must help by as much as it says.
#
# What a program says in its comments:
#   findings     the first cause, and perhaps others, with their MiB: to a tenth, or from-to
#   absent       causes that must not be named for a tenth of the first one's bytes
#   pin          what lies at the heap's end
#   remedy       what the test then has done, and the cause whose prediction that puts to the test
#   restart      the same of a variable that the program is started with again; with the prediction's error in per
#                cent, or "at-most"
#   pythons      versions, when not all will do
#   environment  what it is started with
import os
import re
import sys

from harness import MIB, ROOT, RootTest, interpreters, resident_bytes

SCENARIOS = os.path.join(ROOT, "tests", "scenarios")
ALLOCATORS = os.path.join(ROOT, "build", "allocators")  # scripts/allocators
VERSIONS = ("3.9", "3.11", "3.13")  # where a scenario names no others
# What the remedies are called in explain's own words.
ACTIONS = {"trim": "malloc_trim(0)", "collect": "gc.collect()"}
# "1 blocks".
ONE_OF_MANY = re.compile(r"(?<![\d.,])1 (more |live |free |data )?(objects|blocks|arenas|areas|heaps|chunks|bytes|pools|pages|types|"
                         r"segments|files|numbers|mappings|processes)\b")
PRELUDE = """
import gc, os, sys, time
try:
    import ctypes
    trim = ctypes.CDLL(None).malloc_trim
except ImportError:  # the Python that scripts/pythons builds has none
    trim = None
on_disk = "/var/tmp" if os.path.isdir("/var/tmp") else None  # /tmp may be memory
def touched(size):
    block = bytearray(size)
    for i in range(0, size, 4096):
        block[i] = 1
    return block
def wait(**remedies):
    remedies["trim"] = lambda: trim(0)
    sys.stdout.write("ready\\n")
    sys.stdout.flush()
    for name in iter(sys.stdin.readline, ""):
        remedies[name.strip()]()
        sys.stdout.write("done\\n")
        sys.stdout.flush()
"""


class Scenario:
    def __init__(self, name):
        with open(os.path.join(SCENARIOS, name + ".py")) as file:
            self.source = PRELUDE + file.read()
        said = dict(re.findall(r"^# (findings|absent|pin|remedy|restart|pythons|environment): (.*)$", self.source, re.M))
        self.findings = [row.split() for row in said["findings"].split(",")]
        self.absent = said.get("absent", "").split()
        self.pin = said.get("pin")
        self.remedy = said.get("remedy", "").split()
        self.restart = said.get("restart", "").split()
        self.pythons = said.get("pythons", " ".join(VERSIONS)).split()
        self.environment = dict(row.format(allocators=ALLOCATORS).split("=") for row in said.get("environment", "").split())


class ScenariosTest(RootTest):
    def say(self, target, line):
        target.stdin.write(line + "\n")
        target.stdin.flush()
        self.assertEqual(target.stdout.readline(), "done\n")

    def check(self, name):
        scenario = Scenario(name)
        seen = 0
        for interpreter in interpreters():
            if interpreter.version + "t" * interpreter.free_threaded not in scenario.pythons:
                continue
            if interpreter.name.startswith("pyenv"):
                continue  # Debian's are there in CI
            with self.subTest(interpreter=interpreter.name):
                seen += self.check_on(scenario, name, interpreter)
        self.assertGreater(seen, 0)

    def check_on(self, scenario, name, interpreter):
        command = interpreter.command(self.write(name + ".py", scenario.source))
        target = self.start_scenario(command, scenario.environment)
        before = resident_bytes(target.pid, "Pss")
        found = self.explain(target.pid)
        # Layers add up to this (harness.py).
        self.assertAlmostEqual(found["rss_bytes"], resident_bytes(target.pid), delta=found["rss_bytes"] * 0.01)
        # Files' pages are shared with whatever else starts and ends meanwhile.
        least, most = sorted((before, resident_bytes(target.pid, "Pss")))
        self.assertGreaterEqual(found["pss_bytes"], least - found["rss_bytes"] * 0.1)
        self.assertLessEqual(found["pss_bytes"], most + found["rss_bytes"] * 0.1)
        got = [(finding["cause"], finding["bytes"] / MIB) for finding in found["findings"]]
        self.assertEqual(got[0][0], scenario.findings[0][0], got)
        for cause, expected in scenario.findings:
            least, _, most = expected.partition("-")
            self.assertIn(cause, dict(got))
            self.assertGreater(dict(got)[cause], float(least) * (1 if most else 0.9), got)
            # An interpreter has objects of its own too.
            self.assertLess(dict(got)[cause], float(most) if most else float(least) * 1.1 + 1, got)
        for cause in scenario.absent:
            self.assertLess(dict(got).get(cause, 0), got[0][1] / 10, got)
        self.assertEqual(found["incomplete"], [])
        self.assertNotRegex(self.memtrace("explain", "-p", str(target.pid)).stdout, ONE_OF_MANY)
        if scenario.pin:
            pinned, = (finding for finding in found["findings"] if finding["cause"] == "heap_top_pinned")
            self.assertIn(scenario.pin, [pin["owner"] for pin in pinned["evidence"]["pins"]])
        if scenario.restart:
            self.check_restart(scenario, interpreter, target, found, command)
        if scenario.remedy:
            self.check_remedy(scenario, interpreter, target, found)
        return 1

    def start_scenario(self, command, environment):
        target = self.start(*command, stdin=-1, stdout=-1, text=True, env={**os.environ, **environment})
        self.assertEqual(target.stdout.readline(), "ready\n")
        return target

    def check_restart(self, scenario, interpreter, target, found, command):
        variable, cause, limit = scenario.restart
        remedy = next(row for finding in found["findings"] if finding["cause"] == cause
                      for row in finding["remedies"] if row["action"].startswith(f"start it with {variable}"))
        is_known = remedy["predicted_bytes"] is not None
        predicted = remedy["predicted_bytes" if is_known else "at_most_bytes"]
        other = self.start_scenario(command, {**scenario.environment, **dict([variable.split("=")])})
        gave = resident_bytes(target.pid) - resident_bytes(other.pid)
        error = f"{100 * (predicted - gave) / gave:+.1f} % off" if is_known else "at most"
        print(f"{interpreter.name}, {cause}: {variable} predicted {predicted}, gave {gave} bytes: {error}", file=sys.stderr)
        if limit == "at-most":
            self.assertLess(gave, predicted)
        else:
            # Two runs of one program are not equal themselves.
            self.assertAlmostEqual(predicted, gave, delta=max(abs(gave) * float(limit) / 100, MIB))

    def check_remedy(self, scenario, interpreter, target, found):
        remedy, cause = scenario.remedy
        # malloc_trim() works on the whole heap: what is predicted is the sum of all causes that it helps.
        action = ACTIONS.get(remedy)
        predicted = sum(row["predicted_bytes"] for finding in found["findings"] for row in finding["remedies"]
                        if row["predicted_bytes"] and (row["action"].startswith(action) if action else
                                                      finding["cause"] == cause and row is finding["remedies"][-1]))
        before = resident_bytes(target.pid)
        self.say(target, remedy)
        gave = before - resident_bytes(target.pid)
        print(f"{interpreter.name}, {cause}: {remedy} predicted {predicted}, gave {gave} bytes", file=sys.stderr)
        self.assertGreater(gave, MIB)
        self.assertAlmostEqual(predicted, gave, delta=max(gave * 0.03, 256 << 10))


def add_test(name):
    def test(self):
        self.check(name)
    setattr(ScenariosTest, "test_" + name, test)


for entry in sorted(os.listdir(SCENARIOS)):
    if entry.endswith(".py"):
        add_test(entry[:-3])
