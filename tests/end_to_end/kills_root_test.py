"""memtrace may be ended at any moment, by any signal: the target goes on, and nothing is left."""
import os
import random
import signal
import subprocess
import time

from harness import MEMTRACE, PYTHON, RootTest

# In scripts/test; by hand, KILLS=100.
KILLS = int(os.environ.get("KILLS", "24"))
BUSY = """
import sys, time
print("ready", flush=True)
while True:
    kept = [[i] for i in range(20000)]
    print(len(kept), flush=True)
    time.sleep(0.01)
"""
HOW = ("attach", "explain --freeze", "line engine", "run")


def bpf_objects():
    """The names of memtrace's programs and maps that are loaded."""
    listed = ""
    for kind in ("prog", "link", "map"):
        listed += subprocess.run(["bpftool", kind, "show"], capture_output=True, text=True, check=True).stdout
    return [line for line in listed.splitlines() if " mt_" in line or "on_rss_stat" in line or "on_gc" in line or "published_c" in line]


class KillsTest(RootTest):
    def setUp(self):
        super().setUp()
        self.random = random.Random(14)
        self.target = self.start_python(BUSY)

    def goes_on(self):
        """The target prints, is traced by nobody, and does not stand still."""
        before = time.monotonic()
        for _ in range(3):
            self.assertTrue(self.target.stdout.readline())
        self.assertLess(time.monotonic() - before, 5)
        with open(f"/proc/{self.target.pid}/status") as file:
            status = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
        self.assertEqual(status["TracerPid"], "0")
        self.assertNotIn(status["State"][0], "TtZX")

    def command(self, how):
        output = self.path("report")
        pid = str(self.target.pid)
        return {"attach": ["-q", "-o", output, "-p", pid],
                "explain --freeze": ["explain", "--freeze", "-o", output, "-p", pid],
                "line engine": ["--engine", "line", "-q", "-o", output, "-p", pid],
                "run": ["run", "-q", "-o", output, "--", PYTHON, "-c", "import time; x = [[i] for i in range(300000)]; time.sleep(5)"],
                }[how]

    def test_ended_at_any_moment(self):
        before = bpf_objects()
        for i in range(KILLS):
            how = HOW[i % len(HOW)]
            number = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL)[i // len(HOW) % 4]
            with self.subTest(how=how, signal=number.name, turn=i):
                process = subprocess.Popen([MEMTRACE, *self.command(how)], stderr=subprocess.DEVNULL, start_new_session=True)
                time.sleep(self.random.uniform(0, 1.5))
                process.send_signal(number)
                try:
                    process.wait(timeout=10)
                finally:
                    for left in (process.pid,):
                        try:
                            os.killpg(left, signal.SIGKILL)  # the command of run, which memtrace was not to end
                        except ProcessLookupError:
                            pass
                self.goes_on()
                self.assertLessEqual(set(os.listdir(self.scratch)), {"target.py", "report"})
        deadline = time.monotonic() + 10
        while (left := [line for line in bpf_objects() if line not in before]) and time.monotonic() < deadline:
            time.sleep(0.2)
        self.assertEqual(left, [])
