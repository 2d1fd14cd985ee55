"""memtrace may be ended at any moment, by any signal: the target goes on, and nothing is left."""
import os
import random
import re
import signal
import subprocess
import time

from harness import MEMTRACE, PYTHON, RootTest, wait_until

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


def probe_places():
    """Where the interpreter, which is not position independent, has its probes and their semaphores."""
    notes = subprocess.run(["readelf", "-n", "-W", PYTHON], capture_output=True, text=True, check=True).stdout
    return sorted({int(at, 16) for pair in re.findall(r"Location: (0x[0-9a-f]+), .* Semaphore: (0x[0-9a-f]+)", notes)
                   for at in pair})


def read_places(pid, places):
    """What a process has there: instructions, and how many listen."""
    found = {}
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for place in places:
            memory.seek(place)
            found[place] = memory.read(2)
    return found


class KillsTest(RootTest):
    def setUp(self):
        super().setUp()
        self.random = random.Random(14)
        self.target = self.start_python(BUSY)
        self.places = probe_places()
        self.assertGreater(len(self.places), 5)
        self.untouched = read_places(self.target.pid, self.places)

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
        before, touched = bpf_objects(), 0
        for i in range(KILLS):
            how = HOW[i % len(HOW)]
            number = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL)[i // len(HOW) % 4]
            with self.subTest(how=how, signal=number.name, turn=i):
                process = subprocess.Popen([MEMTRACE, *self.command(how)], stderr=subprocess.DEVNULL, start_new_session=True)
                time.sleep(self.random.uniform(0, 1.5))
                touched += read_places(self.target.pid, self.places) != self.untouched
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
                wait_until(lambda: read_places(self.target.pid, self.places) == self.untouched, 5)
                self.assertLessEqual(set(os.listdir(self.scratch)), {"target.py", "report"})
        if os.environ.get("SANITIZED") != "1":  # which is slow to begin
            self.assertGreater(touched, 0)  # it was ended while it was attached, too
        deadline = time.monotonic() + 10
        while (left := [line for line in bpf_objects() if line not in before]) and time.monotonic() < deadline:
            time.sleep(0.2)
        self.assertEqual(left, [])
