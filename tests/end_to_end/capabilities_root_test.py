"""memtrace without root: as nobody, with exactly the capabilities that README names, and without each of them."""
import json
import os
import shutil
import struct
import subprocess
import unittest

from harness import CAPABILITIES, DEEPCOPY, MIB, NOBODY, PYTHON, RELEASE, RootTest, SLACK, WITHOUT_PERF_EVENTS, is_attached, \
    lines_of, load, nobody_with, wait_until

READY, NOT_READY, OURS = 0, 1, 125
FIVE = nobody_with(CAPABILITIES)
# Collects in another thread too: a probe is a process's, not a thread's.
COLLECTS = """
import gc, sys, threading
print("ready", flush=True)
for _ in range(2):
    sys.stdin.readline()
    for _ in range(5):
        gc.collect()
    thread = threading.Thread(target=lambda: [gc.collect() for _ in range(4)])
    thread.start()
    thread.join()
    kept = bytearray(8 << 20)
    print("done", flush=True)
"""
SLEEPERS = """
import subprocess, sys, time
command = [sys.executable, "-S", "-E", "-c", "import gc, sys; print(flush=True); sys.stdin.read(); gc.collect()"]
children = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(int(sys.argv[1]))]
for child in children:
    child.stdout.readline()
print("all live", flush=True)
time.sleep(float(sys.argv[2]))  # each is found
for child in children:
    child.communicate()
"""


def give_file_capabilities(program):
    """As setcap(8) does: the five, permitted and effective (struct vfs_cap_data, revision 2)."""
    numbers = {"cap_dac_read_search": 2, "cap_sys_ptrace": 19, "cap_perfmon": 38, "cap_bpf": 39, "cap_checkpoint_restore": 40}
    bits = sum(1 << numbers[name] for name in CAPABILITIES)
    os.setxattr(program, "security.capability", struct.pack("<IIIII", 0x02000001, bits & 0xffffffff, 0, bits >> 32, 0))


class CapabilitiesTest(RootTest):
    def setUp(self):
        super().setUp()
        self.program = self.memtrace_for_all()
        self.report = self.path("report.json")
        with open(self.report, "w"):
            os.chmod(self.report, 0o666)

    def run_as(self, prefix, *command, options=(), program=None):
        """The JSON report of `memtrace run`, as another user."""
        done = subprocess.run([*prefix, program or self.program, "run", "-q", "--format", "json", "-o", self.report, *options,
                               "--", *command], capture_output=True, text=True, timeout=120)
        self.assertEqual(done.returncode, 0, done.stderr)
        return load(self.report)

    def doctor(self, prefix, *args):
        done = subprocess.run([*prefix, self.program, "doctor", "--format", "json", *args], capture_output=True, text=True,
                              timeout=120)
        self.assertIn(done.returncode, (READY, NOT_READY), done.stderr)
        return done.returncode, json.loads(done.stdout)

    def can_attach_probes(self):
        """What doctor says to nobody with the five."""
        check = next(check for check in self.doctor(FIVE)[1]["kernel"] if check["name"] == "USDT probes")
        return check["ok"]

    def collections(self, process):
        """How many of the oldest generation; on a kernel that keeps probes for cap_sys_admin, that it says so."""
        if not self.can_attach_probes():
            self.assertIsNone(process["gc"])
            self.assertIn("cap_sys_admin", {row["figure"]: row["reason"] for row in process["missing"]}["gc"])
            return None
        self.assertEqual(process["missing"], [])
        return next(row["count"] for row in process["gc"]["generations"] if row["generation"] == 2)

    def assert_deepcopy(self, process):
        lines = lines_of(process, DEEPCOPY, "function")
        self.assertAlmostEqual(lines[3]["increment_bytes"], 40.1 * 10**6, delta=10**6)
        self.assertAlmostEqual(lines[4]["increment_bytes"], 8.1 * 10**6, delta=2 * SLACK)
        self.assertAlmostEqual(lines[5]["increment_bytes"], -8003584, delta=SLACK)

    def test_run(self):
        report = self.run_as(FIVE, PYTHON, shutil.copy(DEEPCOPY, self.scratch))
        self.assert_conserved(report)
        self.assert_deepcopy(report["processes"][0])

    def test_perf_events_are_not_needed(self):
        """Debian's and Ubuntu's kernels start with kernel.perf_event_paranoid above 2, which keeps them for cap_sys_admin."""
        without = [PYTHON, self.write("without_perf_events.py", WITHOUT_PERF_EVENTS), *FIVE]
        status, found = self.doctor(without)
        self.assertEqual(status, READY)
        self.assertEqual([check["ok"] for check in found["kernel"] if check["name"] == "tracepoints"], [False])
        report = self.run_as(without, PYTHON, shutil.copy(DEEPCOPY, self.scratch))
        self.assert_conserved(report)
        self.assert_deepcopy(report["processes"][0])
        if RELEASE >= (6, 6):  # which has uprobe_multi
            self.assertEqual(report["processes"][0]["missing"], [])
            self.assertGreater(sum(row["count"] for row in report["processes"][0]["gc"]["generations"]), 0)
        self.memtrace("run", "-q", "--rss-source", "classic", "--", "/bin/true")  # which mounts tracefs, if need be
        refused = subprocess.run([*without, self.program, "run", "--rss-source", "classic", "--", "/bin/true"],
                                 capture_output=True, text=True, timeout=120)
        self.assertEqual(refused.returncode, OURS, refused.stderr)
        self.assertIn("perf event", refused.stderr)

    def test_run_with_file_capabilities(self):
        program = shutil.copy(self.program, self.path("memtrace_with_capabilities"))
        give_file_capabilities(program)
        report = self.run_as(NOBODY, PYTHON, shutil.copy(DEEPCOPY, self.scratch), program=program)
        self.assert_conserved(report)
        self.assert_deepcopy(report["processes"][0])
        count = self.collections(report["processes"][0])
        self.assertTrue(count is None or count > 0)

    def test_attach_to_another_users_process(self):
        target = self.start_python(COLLECTS)
        tracer = self.start(*FIVE, self.program, "-q", "--format", "json", "-o", self.report, "-p", str(target.pid),
                            stderr=subprocess.PIPE, text=True)
        wait_until(lambda: tracer.poll() is not None or is_attached(tracer.pid))
        target.stdin.write("\n")
        target.stdin.flush()
        self.assertEqual(target.stdout.readline(), "done\n")
        tracer.send_signal(2)
        _, errors = tracer.communicate(timeout=60)
        self.assertEqual(tracer.returncode, 0, errors)
        report = load(self.report)
        self.assert_conserved(report)
        process = report["processes"][0]
        self.assertIn(self.collections(process), (None, 9))
        grown = {row["line"]: row["grown_bytes"] for row in process["lines"] if row["function"] == "<module>"}
        self.assertGreaterEqual(grown[11], 8 * MIB)
        self.assertGreater(len(process["findings"]), 1)  # the look at its end

    def test_every_option(self):
        for options in (["--owners"], ["--engine", "line", "--calls", "--imports"]):
            name = "--owners" if "--owners" in options else "--engine line"
            status, found = self.doctor(FIVE)
            self.assertEqual(status, READY)
            if not next(check["ok"] for check in found["kernel"] if check["name"] == name) or \
                    ("--calls" in options and not self.can_attach_probes()):
                continue
            with self.subTest(options=options):
                program = self.write("target.py", "import json\ndef f():\n    return bytearray(1 << 20)\nkept = [f() for _ in range(9)]\n")
                report = self.run_as(FIVE, PYTHON, program, options=options)
                self.assert_conserved(report)
                process = report["processes"][0]
                self.assertEqual(process["missing"], [])
                if "--owners" in options:
                    self.assertGreater(len(process["resident"]["lines"]), 1)
                else:
                    self.assertEqual(lines_of(process, program, "f")[3]["occurrences"], 9)
                    self.assertEqual({row["count"] for row in process["function_calls"] if row["function"] == "f"}, {9})
                    self.assertIn("json", {row["module"] for row in process["imports"]})

    def test_each_that_is_missing_is_named(self):
        for missing in CAPABILITIES:
            with self.subTest(missing=missing):
                without = nobody_with([name for name in CAPABILITIES if name != missing])
                done = subprocess.run([*without, self.program, "run", "--", "/bin/true"], capture_output=True, text=True)
                self.assertEqual(done.returncode, OURS)
                self.assertEqual(len(done.stderr.splitlines()), 1)
                self.assertEqual([name for name in CAPABILITIES if name in done.stderr], [missing])
                status, found = self.doctor(without)
                self.assertEqual(status, NOT_READY)
                self.assertEqual([check["name"] for check in found["user"] if check["ok"] is False], [missing])

    def test_doctor_agrees_with_what_happens(self):
        target = self.start_python(COLLECTS)
        for prefix in ([], FIVE, NOBODY):
            with self.subTest(prefix=prefix):
                run = subprocess.run([*prefix, self.program, "run", "-q", "--", "/bin/true"], capture_output=True, text=True)
                attach = subprocess.run([*prefix, self.program, "-q", "-d", "0.1", "-p", str(target.pid)], capture_output=True,
                                        text=True)
                status, found = self.doctor(prefix)
                self.assertEqual((run.returncode, attach.returncode), (0, 0) if status == READY else (OURS, OURS),
                                 run.stderr + attach.stderr)
                self.assertEqual(self.doctor(prefix, "-p", str(target.pid))[0], status)
                loads = {check["name"]: check["ok"] for check in found["kernel"]}
                for option in (["--owners"], ["--engine", "line"], ["--imports"], ["--engine", "line", "--calls"]):
                    done = subprocess.run([*prefix, self.program, "run", "-q", *option, "--", PYTHON, "-c", ""],
                                          capture_output=True, text=True)
                    expected = loads[" ".join(option[-2:]) if option[-1] == "line" else option[-1]]
                    expected = expected and (option == ["--owners"] or loads["USDT probes"])
                    self.assertEqual(done.returncode == 0, bool(expected), done.stderr)
                self.assertEqual(loads["tracing"], True if status == READY else None)

    def test_more_processes_than_files_may_be_open(self):
        """Which are counted, and which are not because of the limit: not the same as having no probes."""
        report = self.run_as(["prlimit", "--nofile=800:800"], PYTHON, self.write("sleepers.py", SLEEPERS), "50", "1")
        children = [process for process in report["processes"] if "-E" in process["cmdline"]]
        self.assertEqual(len(children), 50)
        counted = [process for process in children if process["gc"]]
        self.assertGreaterEqual(len(counted), 20)
        for process in children:
            reasons = [row["reason"] for row in process["missing"]]
            if process["gc"]:
                self.assertEqual(reasons, [])
                self.assertTrue(any(row["count"] for row in process["gc"]["generations"]))
            else:
                self.assertEqual(len(reasons), 1)
                self.assertIn("limit of open files", reasons[0])
        self.assertLess(len(counted), 50)

    def test_many_processes(self):
        report = self.run_as([], PYTHON, self.write("sleepers.py", SLEEPERS), "130", "3")
        children = [process for process in report["processes"] if "-E" in process["cmdline"]]
        self.assertEqual(len(children), 130)
        self.assertEqual([row["reason"] for process in children for row in process["missing"]], [])
        self.assertEqual(len([process for process in children if process["gc"]]), 130)


if __name__ == "__main__":
    unittest.main()
