"""What memtrace run says of the memory that is there when the program has run to its end, before the interpreter clears it."""
import os
import signal
import subprocess
import unittest

from harness import MEMTRACE, PYTHON, RootTest, interpreters, wait_until

# A thread ends after the main module has, and what atexit functions free is gone.
PROGRAM = """
import atexit, sys, threading, time
class Item(object):
    __slots__ = ()
kept = []
freed = [float(i) for i in range(500000)]
def work():
    time.sleep(0.2)
    kept.extend([Item() for i in range(500000)])
threading.Thread(target=work).start()
atexit.register(freed.__delitem__, slice(None))
sys.exit(3)
"""


def state(pid):
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[0]


class ProgramsEndTest(RootTest):
    def run_program(self, *command, status=0):
        """The command's part of the report."""
        report = self.run_report(*command, status=status)
        self.assert_conserved(report)
        python, = (process for process in report["processes"] if process["python"])
        return python

    def test_all_interpreters(self):
        for interpreter in interpreters():
            with self.subTest(interpreter=interpreter.name):
                process = self.run_program(*interpreter.command(self.write("program.py", PROGRAM)), status=3)
                self.assertTrue(process["layers_at_programs_end"])
                self.assertEqual(process["closed_by"], "exit")
                rss = process["layers_rss_bytes"]
                self.assertEqual(sum(layer["resident_bytes"] for layer in process["layers"]), rss)
                unexplained, = (layer["resident_bytes"] for layer in process["layers"] if layer["owner"] == "unexplained")
                self.assertLess(abs(unexplained), rss * 0.01)
                live = next(row for row in process["findings"] if row["cause"] == "live_objects")
                if interpreter.free_threaded:
                    self.assertGreater(live["bytes"], 500000 * 16)  # objects in mimalloc's pages have no types yet
                    continue
                items, = (row for row in live["evidence"]["types"] if row["type"] in ("Item", "__main__.Item"))
                self.assertEqual(items["objects"], 500000)
                floats = [row["objects"] for row in live["evidence"]["types"] if row["type"] == "float"]
                self.assertLess(sum(floats), 10000)

    def assert_looked_at(self, process):
        """With all that the program has had until its end."""
        self.assertTrue(process["layers_at_programs_end"], process["layers_missing"])
        self.assertIsNone(process["layers_missing"])
        live = next(row for row in process["findings"] if row["cause"] == "live_objects")
        self.assertGreater(live["bytes"], 300000 * 16)

    def test_sigint_ignored_from_the_start(self):
        """As in a job that a script starts in the background: CPython handles no signal then, and gives none back."""
        program = self.write("background.py", "import time\nx = [float(i) for i in range(300000)]\ntime.sleep(0.3)\n")
        for interpreter in interpreters():
            with self.subTest(interpreter=interpreter.name):
                subprocess.run(self.memtrace_run("--", *interpreter.command(program)), check=True,
                               preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN))
                process, = (process for process in self.read_report()["processes"] if process["python"])
                if interpreter.version == "2.7" and interpreter.tree:  # the compiler has put that function into its caller
                    self.assertIn("was not seen to run to its end", process["layers_missing"])
                else:
                    self.assert_looked_at(process)

    def test_a_script_s_background_job(self):
        report = self.path("report.txt")
        subprocess.run(["/bin/sh", "-c", '"$@" & wait', "sh", MEMTRACE, "run", "-q", "-o", report, "--", PYTHON, "-c",
                        "x = [float(i) for i in range(300000)]"], check=True)
        with open(report) as file:
            self.assertIn("Why memory was resident when the program had run to its end", file.read())

    def test_one_that_changes_its_signals(self):
        """A call of signal.signal() is not the end; and then the interpreter has no signal to give back."""
        self.assert_looked_at(self.run_program(PYTHON, self.write("program.py", """
import signal, time
signal.signal(signal.SIGINT, signal.SIG_DFL)
x = [float(i) for i in range(1000000)]
time.sleep(0.1)
""")))

    def test_one_that_ends_otherwise(self):
        for end, why in (("os._exit(0)", "it was not seen to run to its end, as when it ends by os._exit(), by a signal or by a crash"),
                         ("os.execv('/bin/true', ['true'])", "it became another program")):
            with self.subTest(end):
                process = self.run_program(PYTHON, self.write("program.py", f"import os\n{end}\n"))
                self.assertIsNone(process["layers"])
                self.assertEqual(process["layers_missing"], why)
                self.assertIsNone(process["held_ns"])
                self.assertLessEqual({row["cause"] for row in process["findings"]}, {"returned"})

    def test_children_are_not_stopped(self):
        """Their parent would see it."""
        report = self.run_report(PYTHON, self.write("program.py", """
import os, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "x = bytearray(1 << 20)"])
pid, status = os.waitpid(child.pid, os.WUNTRACED)
assert os.WIFEXITED(status), status
"""))
        self.assertEqual(sorted(process["layers_at_programs_end"] for process in report["processes"]), [False, True])

    def test_let_go_when_memtrace_is_killed(self):
        """Stopped for a look that nobody takes any more, it goes on to its end."""
        done = self.path("done")
        program = self.write("program.py", f"""
import os, sys, time
last = type("Last", (), {{"__del__": lambda self, open=open: open({done!r}, "w").close()}})()
print(os.getpid(), flush=True)
sys.stdin.readline()
""")
        tracer = self.start(MEMTRACE, "run", "-q", "-o", "/dev/null", "--", PYTHON, program, stdin=subprocess.PIPE,
                            stdout=subprocess.PIPE, text=True)
        pid = int(tracer.stdout.readline())
        wait_until(lambda: state(pid) == "S")
        tracer.send_signal(signal.SIGSTOP)
        wait_until(lambda: state(tracer.pid) == "T")
        tracer.stdin.write("\n")
        tracer.stdin.flush()
        wait_until(lambda: state(pid) == "T")
        self.assertFalse(os.path.exists(done))
        tracer.kill()
        wait_until(lambda: os.path.exists(done))

    def test_table(self):
        done = self.memtrace("run", "--", PYTHON, self.write("program.py", PROGRAM), check=False)
        self.assertEqual(done.returncode, 3)
        self.assertIn("Why memory was resident when the program had run to its end, and what would help\n", done.stderr)
        self.assertRegex(done.stderr, r"500,000 objects of type Item")


if __name__ == "__main__":
    unittest.main()
