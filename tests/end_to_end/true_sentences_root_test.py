"""What the report says is so: what was not found is not said to be absent, and what was left out is named."""
import json
import os
import re
import signal
import unittest

from harness import MIB, PYTHON, RootTest, lines_of, python_process

# Waits, with memory, and runs nothing.
IDLE = """
import sys
x = [object() for _ in range(300000)]
print("ready", flush=True)
sys.stdin.readline()
"""

# Forks a child that makes itself some memory, when it is told to, and lives on.
FORKS = """
import os, sys, time
print("ready", flush=True)
sys.stdin.readline()
if os.fork() == 0:
    x = [bytearray(b"x") * (1 << 18) for i in range(100)]
    print("done", flush=True)
    time.sleep(600)
os.wait()
"""

GROWS = "def grow():\n    return bytearray(30 << 20)\nx = grow()\n"


class WhatIsShownTest(RootTest):
    def sections(self, text):
        """What the report says of each process, by pid."""
        return {int(re.match(r"process (\d+)", part)[1]): part for part in re.split(r"\n-{70,}\n\n", text)}

    def test_idle_processes_that_were_asked_for(self):
        """They ran Python before, and have findings."""
        targets = [self.start_python(IDLE) for _ in range(2)]
        text = self.memtrace("-q", "-p", str(targets[0].pid), "-p", str(targets[1].pid), "-d", "0.5").stdout
        self.assertNotIn("ran no Python", text)
        sections = self.sections(text)
        self.assertEqual(set(sections), {target.pid for target in targets})
        for section in sections.values():
            self.assertIn("Why it is resident, and what would help", section)
            self.assertRegex(section, r"300,?0\d\d objects of type object")

    def test_forked_children_that_live(self):
        target = self.start_python(FORKS)
        report = self.trace_step(target)
        child = next(process for process in report["processes"] if process["opened_by"] == "fork")
        self.addCleanup(os.kill, child["pid"], signal.SIGKILL)
        self.assertTrue(child["findings"])
        text = self.memtrace("-q", "-p", str(target.pid), "-p", str(child["pid"]), "-d", "0.5").stdout
        self.assertNotIn("ran no Python", text)
        self.assertIn("Why it is resident, and what would help", self.sections(text)[child["pid"]])

    def test_forked_children_in_which_nothing_moved(self):
        """They are Pythons all the same; what execs at once is none that was seen."""
        program = self.write("forks.py", "import os, time\nx = [bytearray(100)] * 100000\n"
                             "time.sleep(2)  # it is seen, however busy the machine is\n"
                             "pids = [os.fork() for _ in range(1)]\n"
                             "if 0 in pids:\n    os._exit(0)\nos.waitpid(pids[0], 0)\n")
        text = self.memtrace("run", "-q", "--", "/bin/sh", "-c", f"{PYTHON} {program}; /bin/true").stderr
        self.assertNotRegex(text, r"ran no Python that was seen \([^)]*python")
        self.assertRegex(text, r"\d process(es)? ran no Python that was seen \(\w+(, \w+)*\)")

    def test_programs_below_a_folder_with_a_librarys_name(self):
        for folder in ("lib/python", "lib/python3.11", "lib/python3.11/site-packages", "site-packages", "dist-packages"):
            with self.subTest(folder=folder):
                os.makedirs(self.path(folder), exist_ok=True)
                text = self.memtrace("run", "-q", "--", PYTHON, self.write(os.path.join(folder, "app.py"), GROWS)).stderr
                self.assertRegex(text, rf"(?m)^File .*{folder}/app\.py, function grow$")
                self.assertRegex(text, r"(?m)^ +2 +[\d.]+ MiB +30\.\d\d MiB .*return bytearray\(30 << 20\)$")

    def test_the_heaviest_chain_of_a_program_that_is_all_library(self):
        data = self.path("data.json")
        with open(data, "w") as file:
            json.dump([{"key": i, "value": [str(i)]} for i in range(100000)], file)
        command = [PYTHON, "-m", "json.tool", "--compact", data, "/dev/null"]
        text = self.memtrace("run", "-q", "--", *command).stderr
        chain, = re.findall(r"(?m)^Most of what lines grew came by this chain of calls\n +Grown +Where\n((?: .*\n)+)", text)
        self.assertIn("json/tool.py:", chain)
        self.assertIn("json/decoder.py:", chain)
        self.assertRegex(text, r"(?m)^File .*/json/decoder\.py, function JSONDecoder\.raw_decode$")
        self.assertRegex(text, r"(?m)^ +\d+ +[\d.]+ MiB +\d\d\.\d\d MiB .*scan_once")
        process = python_process(self.run_report(*command), "json.tool")
        chain = process["heaviest_chain"]
        python = next(row["grown_bytes"] for row in process["owners"] if row["owner"] == "python")
        self.assertLessEqual(chain[0]["grown_bytes"], python)
        self.assertGreater(chain[-1]["grown_bytes"], python // 3)
        self.assertEqual([link["grown_bytes"] for link in chain], sorted((link["grown_bytes"] for link in chain), reverse=True))
        # The program's own lines are enough where they have most of it.
        text = self.memtrace("run", "-q", "--", PYTHON, self.write("app.py", GROWS)).stderr
        self.assertEqual(set(re.findall(r"(?m)^File (.*), function", text)), {self.path("app.py")})

    def test_whose_a_page_is(self):
        text = self.memtrace("run", "-q", "--", PYTHON, self.write("app.py", GROWS)).stderr
        self.assertIn("Grown is what a line, or what it calls, touched first; ", text)


class WhatIsMissingTest(RootTest):
    def test_processes_that_were_not_followed(self):
        """Nothing of them is in "unexplained": they are in no figure."""
        program = self.write("forks.py", """
import os, signal
pids = []
read, write = os.pipe()
for i in range(1100):
    pid = os.fork()
    if pid == 0:
        os.close(write)
        os.read(read, 1)
        os._exit(0)
    pids.append(pid)
os.close(write)
for pid in pids:
    os.waitpid(pid, 0)
""")
        done = self.memtrace("run", "-q", "--no-look", "-o", self.path("report.txt"), "--", PYTHON, program)
        self.assertEqual(done.returncode, 0)
        with open(self.path("report.txt")) as file:
            text = file.read()
        lost, = set(re.findall(r"lost events: (\d+)", text))
        self.assertGreaterEqual(int(lost), 1100 - 1024)
        said, = re.findall(r"accounts_full: (\d+) processes were not followed, because 1,024 are followed at once: "
                           r"what happened there, and in what was started there, is not in this report\.", text)
        self.assertEqual(said, lost)
        self.assertNotIn("Events were lost", text)

    def test_code_that_cannot_be_read(self):
        """A file's name of 20,000 characters. (Without site: what it imports has code that is gone at once, and a collection that
        comes then is told of by an address.)"""
        program = self.write("long.py", "exec(compile('x = bytearray(5 << 20)', 'n' * 20000, 'exec'))\n")
        text = self.memtrace("run", "-q", "--", PYTHON, "-S", program).stderr
        self.assertRegex(text, r'code_unreadable: 1 code object was not read whole: file or function is "\?" there, or lines '
                               r"are not known\.")
        self.assertGreater(self.run_report(PYTHON, program)["failures"]["code_unreadable"], 0)

    def test_why_there_are_no_findings(self):
        target = self.start_python(IDLE)
        tracer = self.attach("-p", str(target.pid))
        target.kill()
        process, = self.finish(tracer, number=None)["processes"]
        self.assertEqual((process["layers"], process["layers_missing"]), (None, "it had ended"))
        light = self.start_python(IDLE)
        heavy = self.start_python(IDLE.replace("300000", "900000"))  # it is looked at first, for it matters most
        report = self.finish(self.attach("--look-seconds", "0", f"-p{light.pid}", f"-p{heavy.pid}"))
        missing = {process["pid"]: (process["layers"] is None, process["layers_missing"]) for process in report["processes"]}
        self.assertEqual(missing[heavy.pid], (False, None))
        self.assertEqual(missing[light.pid],
                         (True, "looking at the processes before it had taken 0 s, which is all that is spent on that; "
                                "--look-seconds gives it more"))
        target = self.start_python(IDLE)
        text = self.memtrace("-q", "-p", str(target.pid), "-d", "0.3", "--no-look").stdout
        self.assertIn("\nWhy memory is resident was not looked at: --no-look was given.\n", text)
        self.assertNotIn("Why it is resident", text)


class WhatWeDoTest(RootTest):
    def test_our_own_memory(self):
        """The BPF maps are the kernel's memory, and in no process's figures."""
        tracer = self.attach("-p", str(self.start_python(IDLE).pid))
        maps = 0
        for fd in os.listdir(f"/proc/{tracer.pid}/fdinfo"):
            with open(f"/proc/{tracer.pid}/fdinfo/{fd}") as file:
                info = dict(line.split(":", 1) for line in file if ":" in line)
            maps += int(info["memlock"]) if "map_type" in info else 0
        self.assertGreater(maps, 20 * MIB)
        self.assertAlmostEqual(self.finish(tracer)["tracer"]["bpf_map_bytes"], maps, delta=maps // 20)
        text = self.memtrace("run", "-q", "--", "/bin/true").stderr
        self.assertRegex(text, r"memtrace [\d.]+ used [\d.]+ s of CPU time, [\d.]+ MiB at its peak, and [2-9]\d\.\d\d MiB of "
                               r"the kernel's for BPF maps\.\n$")

    def test_our_probes_have_an_owner(self):
        """An idle process, in which nobody but memtrace changes anything."""
        target = self.start_python(IDLE)
        report = self.finish(self.attach("-p", str(target.pid)))
        self.assert_conserved(report)
        owners = {row["owner"]: row for row in report["processes"][0]["owners"]}
        self.assertEqual(set(owners), {"[memtrace]"})
        self.assertLessEqual(owners["[memtrace]"]["grown_bytes"], 64 << 10)

    def test_how_long_the_command_was_held(self):
        program = self.write("app.py", "x = [str(i) for i in range(1000000)]\n")
        report = self.run_report(PYTHON, program)
        process = python_process(report, "app.py")
        self.assertGreater(process["held_ns"], 0)
        self.assertLess(process["held_ns"], process["duration_ns"])
        text = self.memtrace("run", "-q", "--", PYTHON, program).stderr
        held, = re.findall(r"(?m)^It was held for (\d+\.\d\d) s when it had run to its end, to be looked at; --no-look leaves "
                           r"that out\.$", text)
        self.assertGreater(float(held), 0)
        process = python_process(self.run_report(PYTHON, program, options=["--no-look"]), "app.py")
        self.assertIsNone(process["held_ns"])
        self.assertIsNone(process["layers"])
        self.assertEqual(process["layers_missing"], "--no-look was given")
        self.assertGreater(lines_of(process, program, "<module>")[1]["grown_bytes"], 50 * MIB)

    def test_help_says_so(self):
        for command in ([], ["run"]):
            self.assertRegex(" ".join(self.memtrace(*command, "--help").stdout.split()),
                             r"--no-look Do not look at the end .* holds its command")


if __name__ == "__main__":
    unittest.main()
