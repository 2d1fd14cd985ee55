"""The traced program never notices, and memtrace ends well however things end."""
import os
import signal
import subprocess
import time
import unittest

from harness import MEMTRACE, MIB, PYTHON, RootTest, lines_of, load

SLEEPER = """
import sys, time
x = bytearray(10 << 20)
print("ready", flush=True)
while True:
    time.sleep(0.05)
"""


class TransparencyTest(RootTest):
    def test_same_output_and_exit_status(self):
        program = "import sys; print(sys.stdin.read(), end=''); print('err', file=sys.stderr); sys.exit(37)"
        plain = subprocess.run([PYTHON, "-c", program], input="line\n", capture_output=True, text=True)
        traced = self.memtrace("run", "-q", "-o", "/dev/null", "--", PYTHON, "-c", program, input="line\n", check=False)
        self.assertEqual((traced.returncode, traced.stdout, traced.stderr),
                         (plain.returncode, plain.stdout, plain.stderr))
        self.assertEqual(traced.returncode, 37)

    def test_death_by_signal_is_passed_on(self):
        for number in (signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM):
            done = self.memtrace("run", "-q", "-o", self.path("r.json"), "--format", "json", "--", PYTHON, "-c",
                                 f"import os; x = bytearray(5 << 20); os.kill(os.getpid(), {int(number)})", check=False)
            self.assertEqual(done.returncode, -number)
            self.assert_conserved(load(self.path("r.json")))

    def test_signal_mask_and_dispositions_are_untouched(self):
        program = ("import signal; print(sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])), "
                   "[(s, signal.getsignal(s)) for s in (signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)]);"
                   "print([l for l in open('/proc/self/status') if l.startswith('Sig') and l[:4] != 'SigQ'])")
        plain = subprocess.run([PYTHON, "-c", program], capture_output=True, text=True).stdout
        self.assertEqual(self.memtrace("run", "-q", "-o", "/dev/null", "--", PYTHON, "-c", program).stdout, plain)

    def test_open_files_are_the_same(self):
        program = "import os; print(sorted(os.listdir('/proc/self/fd')))"
        plain = subprocess.run([PYTHON, "-c", program], capture_output=True, text=True).stdout
        self.assertEqual(self.memtrace("run", "-q", "-o", "/dev/null", "--", PYTHON, "-c", program).stdout, plain)

    def test_a_command_without_python_is_traced_too(self):
        report = self.run_report("/bin/ls", "/")
        self.assertIsNone(report["processes"][0]["python"])
        self.assertGreater(report["processes"][0]["rss"]["grown_bytes"], 0)


class EndingTest(RootTest):
    def sleeper(self):
        return self.start_python(SLEEPER)

    def test_ctrl_c_and_sigterm_report(self):
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            target = self.sleeper()
            report = self.finish(self.attach("-p", str(target.pid)), number)
            self.assert_conserved(report)
            self.assertEqual(report["processes"][0]["closed_by"], "detach")
            self.assertIsNone(target.poll(), "the target must live on")

    def test_duration(self):
        target = self.sleeper()
        started = time.monotonic()
        report = self.finish(self.attach("-p", str(target.pid), "-d", "1.5"), number=None)
        self.assertLess(abs(report["duration_ns"] / 1e9 - 1.5), 0.5)
        self.assertLess(time.monotonic() - started, 30)

    def test_target_dies(self):
        target = self.sleeper()
        tracer = self.attach("-p", str(target.pid))
        target.kill()
        report = self.finish(tracer, number=None)
        self.assert_conserved(report)
        self.assertEqual(report["processes"][0]["closed_by"], "exit")

    def test_target_forks_and_execs(self):
        target = self.start_python("""
import os, sys
print("ready", flush=True)
sys.stdin.readline()
if os.fork() == 0:
    child = bytearray(7 << 20)
    os._exit(0)
os.wait()
os.execv(sys.executable, [sys.executable, "-c", "x = bytearray(6 << 20); print('done', flush=True); input()"])
""")
        report = self.trace_step(target)
        self.assertEqual([(p["opened_by"], p["closed_by"]) for p in report["processes"]],
                         [("attach", "exec"), ("fork", "exit"), ("exec", "detach")])
        self.assertAlmostEqual(lines_of(report["processes"][1], "target.py", "<module>")[6]["grown_bytes"], 7 * MIB,
                               delta=MIB)
        self.assertGreater(lines_of(report["processes"][2], "<string>", "<module>")[1]["grown_bytes"], 6 * MIB)

    def test_run_passes_sigterm_to_the_command(self):
        # Killed by pid alone, as a supervisor does: the command must get it, and its death be ours.
        tracer = self.start(MEMTRACE, "run", "-q", "--format", "json", "-o", self.path("report.json"), "--", PYTHON, "-c",
                            "import time; print('ready', flush=True); time.sleep(60)", stdout=subprocess.PIPE, text=True)
        tracer.stdout.readline()
        tracer.send_signal(signal.SIGTERM)
        self.assertEqual(tracer.wait(timeout=30), -signal.SIGTERM)
        self.assert_conserved(load(self.path("report.json")))

    def test_run_survives_the_terminals_ctrl_c(self):
        # The terminal signals the whole group; a command that handles it decides for itself, and gets it once.
        program = self.write("handles.py", """
import signal, time
seen = 0
def count(*_):
    global seen
    seen += 1
signal.signal(signal.SIGINT, count)
print("ready", flush=True)
time.sleep(2)
print("interrupted", seen, "time", flush=True)
""")
        text = self.memtrace_on_terminal("run", "-q", "--format", "json", "-o", self.path("report.json"), "--", PYTHON,
                                         program, typed=[("ready", "\x03")])
        self.assertIn("interrupted 1 time", text)
        self.assert_conserved(load(self.path("report.json")))

    def test_kill_9_leaves_the_target_alone(self):
        target = self.sleeper()
        tracer = self.attach("-p", str(target.pid))
        tracer.kill()
        tracer.wait()
        time.sleep(0.2)
        self.assertIsNone(target.poll())

    def test_closed_and_full_outputs(self):
        target = self.sleeper()
        closed = subprocess.run(["sh", "-c", 'exec "$@" >&-', "sh", MEMTRACE, "-p", str(target.pid), "-d", "0.2"],
                                capture_output=True, text=True)
        self.assertEqual(closed.returncode, 125)
        self.assertIn("standard output is closed", closed.stderr)
        broken = subprocess.Popen([MEMTRACE, "-p", str(target.pid), "-d", "0.2"], stdout=subprocess.PIPE,
                                  stderr=subprocess.PIPE, text=True)
        broken.stdout.close()
        _, errors = broken.communicate(timeout=60)
        self.assertEqual(broken.returncode, 125, errors)
        self.assertIn("Broken pipe", errors)
        full = self.memtrace("-p", str(target.pid), "-d", "0.2", "-o", "/dev/full", check=False)
        self.assertEqual(full.returncode, 125)
        self.assertIn("No space left on device", full.stderr)

    def test_an_older_report_stays_until_there_is_a_new_one(self):
        kept = self.write("report.txt", "yesterday's report\n")
        done = self.memtrace("run", "-q", "-o", kept, "--", "/no/such/command", check=False)
        self.assertEqual(done.returncode, 127)
        with open(kept) as file:
            self.assertEqual(file.read(), "yesterday's report\n")

    def test_hundreds_of_short_processes(self):
        # More than the kernel side has room for at once: finished ones make room.
        program = "import os\nfor _ in range(1500):\n    if os.fork() == 0:\n        os._exit(0)\n    os.wait()\n"
        report = self.run_report(PYTHON, self.write("forks.py", program))
        self.assert_conserved(report)
        self.assertEqual(len(report["processes"]), 1501)


if __name__ == "__main__":
    unittest.main()
