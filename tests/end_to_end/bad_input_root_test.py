"""What cannot be done is said in one sentence, with the right exit status, and nothing is lost."""
import json
import os
import subprocess
import unittest

from harness import MEMTRACE, NOBODY, PYTHON, WITHOUT_BPF, WITHOUT_BTF, RootTest, claim_member_offset, claim_version

OURS, NOT_EXECUTABLE, NOT_FOUND, USAGE = 125, 126, 127, 2


class BadInputTest(RootTest):
    def refused(self, status, words, *args, prefix=(), **options):
        """memtrace, run with these arguments, ends with this status and one sentence that has all these words."""
        done = subprocess.run([*prefix, MEMTRACE, *args], capture_output=True, text=True, timeout=60, **options)
        self.assertEqual(done.returncode, status, done.stderr)
        self.assertEqual(done.stdout, "")
        self.assertEqual(len(done.stderr.strip().splitlines()), 1, done.stderr)
        for word in words:
            self.assertIn(word, done.stderr)

    def sleeper(self):
        return self.start_python("import time\nprint('ready', flush=True)\ntime.sleep(600)\n")

    def test_no_such_process(self):
        gone = subprocess.Popen(["/bin/true"])
        gone.wait()
        self.refused(OURS, ["there is no process", str(gone.pid)], "-p", str(gone.pid))

    def test_not_a_python_process(self):
        process = self.start("/bin/sleep", "600")
        self.refused(OURS, [str(process.pid), "sleep", "not a Python process"], "-p", str(process.pid))

    def test_a_kernel_thread_and_a_zombie(self):
        zombie = subprocess.Popen(["/bin/true"])
        os.waitid(os.P_PID, zombie.pid, os.WEXITED | os.WNOWAIT)
        self.refused(OURS, ["no memory of its own"], "-p", str(zombie.pid))
        zombie.wait()
        self.refused(OURS, ["kernel thread"], "-p", "2")

    def test_not_ours_to_trace(self):
        target = self.sleeper()
        without = ["setpriv", "--inh-caps", "-all", "--bounding-set", "-sys_ptrace", "--reuid", "0"]
        self.refused(OURS, ["cap_sys_ptrace"], "-p", str(target.pid), prefix=without)

    def test_not_root(self):
        target = self.sleeper()
        copied = self.memtrace_for_all()
        for args in (["-p", str(target.pid)], ["run", "--", "/bin/true"]):
            done = subprocess.run([*NOBODY, copied, *args], capture_output=True, text=True)
            self.assertEqual(done.returncode, OURS)
            for word in ("cap_bpf", "cap_perfmon", "cap_sys_ptrace", "sudo"):
                self.assertIn(word, done.stderr)

    def test_a_kernel_without_btf(self):
        self.refused(OURS, ["no BTF", "CONFIG_DEBUG_INFO_BTF"], "run", "--", "/bin/true", prefix=WITHOUT_BTF)

    def test_a_kernel_without_bpf(self):
        script = self.write("without_bpf.py", WITHOUT_BPF)
        self.refused(OURS, ["no bpf system call", "CONFIG_BPF_SYSCALL"], "run", "--", "/bin/true", prefix=[PYTHON, script])

    def test_an_unsupported_python(self):
        python = self.altered_python("python", lambda image: claim_version(image, 99, 2))
        self.assert_lines_withheld(python, "3.99.2", "does not know the memory layout of CPython 3.99.2 yet")

    def test_a_python_that_contradicts_its_version(self):
        python = self.altered_python("python", lambda image: claim_member_offset(image, "co_linetable", 144))
        self.assert_lines_withheld(python, "3.11.2", "contradicts the layout that memtrace knows for its version: "
                                   "PyCode_Type.co_linetable is at 144 and not at 136")

    def assert_lines_withheld(self, python, version, why):
        """Page accounting goes on."""
        program = self.write("grow.py", "x = bytearray(20 << 20)\nx[::4096] = bytes(len(x[::4096]))\n")
        report = self.run_report(python, program)
        self.assert_conserved(report)
        process = next(p for p in report["processes"] if p["python"])
        self.assertEqual(process["python"]["version"], version)
        self.assertIn(why, process["python"]["refusal"])
        self.assertIsNone(process["python"]["free_threaded"])
        self.assertEqual(process["lines"], [])
        unknown = next(row for row in process["owners"] if row["owner"] == "[line unknown]")
        self.assertGreater(unknown["grown_bytes"], 19 << 20)
        shown = self.memtrace("run", "-q", "--", python, program).stderr
        self.assertIn("Lines are not known: ", shown)
        self.assertIn(why, shown)

    def test_commands_that_cannot_run(self):
        self.refused(NOT_FOUND, ["no command 'no-such-command-here'"], "run", "--", "no-such-command-here")
        plain = self.write("plain.txt", "not a program\n")
        self.refused(NOT_EXECUTABLE, ["cannot be executed", "Permission denied"], "run", "--", plain)

    def test_output_that_cannot_be_written(self):
        marker = self.path("marker")
        for output in ("/no/such/folder/report", self.scratch):
            self.refused(OURS, ["cannot write the report to"], "run", "-o", output, "--", "/bin/touch", marker)
        self.assertFalse(os.path.exists(marker), "the command must not have run")
        target = self.sleeper()
        self.refused(OURS, ["cannot write the report to"], "-p", str(target.pid), "-o", "/no/such/folder/report")

    def test_absurd_durations(self):
        for duration in ("0", "-3", "nan", "inf", "1e12", "soon", "s", "5 s", "5d", "10ss", "-1m", "9000h", ""):
            with self.subTest(duration=duration):
                self.refused(USAGE, ["-d"], "-p", "1", f"-d{duration}" if duration else "-d")

    def test_one_of_several_is_gone(self):
        """A warning; an error only when none is left."""
        target = self.sleeper()
        gone = subprocess.Popen(["/bin/true"])
        gone.wait()
        sleep = self.start("/bin/sleep", "600")
        done = self.memtrace("-q", "-p", f"{gone.pid},{target.pid}", "-p", str(sleep.pid), "-d", "0.2s", "--format", "json")
        self.assertEqual([process["pid"] for process in json.loads(done.stdout)["processes"]], [target.pid])
        self.assertIn(f"there is no process {gone.pid}; it is left out", done.stderr)
        self.assertIn(f"process {sleep.pid} (sleep) is not a Python process", done.stderr)
        done = self.memtrace("-q", "-p", f"{gone.pid},{sleep.pid}", "-d", "0.2s", check=False)
        self.assertEqual((done.returncode, done.stdout), (OURS, ""))
        self.assertIn(f"process {sleep.pid} (sleep) is not a Python process", done.stderr)

    def test_ways_to_name_processes_and_durations(self):
        one, two = self.sleeper(), self.sleeper()
        for options in (["-p", f"{one.pid},{two.pid}"], ["-p", str(one.pid), "-p", str(two.pid)]):
            for duration, seconds in (("0.3s", 0.3), ("0.005m", 0.3)):
                done = self.memtrace("-q", *options, "-d", duration, "--format", "json")
                report = json.loads(done.stdout)
                self.assertEqual({process["pid"] for process in report["processes"]}, {one.pid, two.pid})
                # (To begin a child of its own takes a sanitized memtrace a tenth of a second.)
                delta = 1 if os.environ.get("SANITIZED") == "1" else 0.3
                self.assertAlmostEqual(report["duration_ns"] / 1e9, seconds, delta=delta)
        self.assertIn(f"process {one.pid}: ", self.memtrace("explain", str(one.pid)).stdout)
        doctor = self.memtrace("doctor", str(one.pid), "--format", "json", check=False)
        self.assertEqual(json.loads(doctor.stdout)["process"]["pid"], one.pid)

    def test_usage(self):
        for args, words in ((["run"], ["no command to run"]), ([], ["nothing to trace"]), (["-p", "0"], ["--pid"]),
                            (["-p", "x"], ["--pid"]), (["--format", "xml", "-p", "1"], ["--format"]),
                            (["-p", "1", "--", "ls"], ["memtrace run"]), (["-p", "1", "run", "--", "ls"], ["run"]),
                            (["-p", "1,x"], ["--pid"]), (["-p", "1;2"], ["--pid"]),
                            (["explain"], ["name the process"]), (["explain", "x"], ["--pid"]), (["explain", "0"], ["--pid"]),
                            (["explain", "1", "2"], ["not expected: 2"]), (["explain", "1,2"], ["--pid"]),
                            (["run", "-x", "--", "ls"], ["-x"])):
            with self.subTest(args=args):
                self.refused(USAGE, words, *args)

    def test_help_is_not_an_error(self):
        for args in (["--help"], ["run", "--help"], ["--version"]):
            done = self.memtrace(*args)
            self.assertIn("memtrace", done.stdout.lower())
            self.assertEqual(done.stderr, "")


if __name__ == "__main__":
    unittest.main()
