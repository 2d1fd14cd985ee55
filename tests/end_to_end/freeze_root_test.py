# memtrace explain --freeze pauses a process while it is read, and always lets it go.
import os
import re
import signal
import subprocess
import sys
import time

from harness import MEMTRACE, PYTHON, RootTest, WORKLOADS, wait_until

# Threads that allocate and free, and one that says, when asked, for how long it stood still at most since last asked.
BUSY = """
import select, sys, threading, time
def work():
    while True:
        keep = [bytes(i % 500) for i in range(20000)]
        del keep[::2]
for i in range(3):
    threading.Thread(target=work, daemon=True).start()
sys.setswitchinterval(1e-4)
print("ready", flush=True)
longest, last = 0, time.monotonic_ns()
while True:
    asked = select.select([sys.stdin], [], [], 0)[0]
    now = time.monotonic_ns()
    longest, last = max(longest, now - last), now
    if asked:
        sys.stdin.readline()
        print(longest, flush=True)
        longest = 0
"""
# Long to read: many arenas.
LARGE = """
import sys
keep = [bytes(100) for i in range(3000000)]
print("ready", flush=True)
while True:
    sys.stdin.readline()
    print("here", flush=True)
"""
# Writes a byte for each signal that its C-level handler gets.
COUNTS_SIGNALS = """
import os, signal
reader, writer = os.pipe()
os.set_blocking(writer, False)
signal.set_wakeup_fd(writer)
signal.signal(signal.SIGRTMIN, lambda number, frame: None)
signal.signal(signal.SIGTERM, lambda number, frame: os._exit(0))
print("ready", flush=True)
count = 0
while True:
    read = os.read(reader, 65536)
    count += read.count(signal.SIGRTMIN)
    if os.path.exists(os.environ["ASK"]):
        print(count, flush=True)
        os.remove(os.environ["ASK"])
"""
# Traces a process until its input ends.
TRACER = """
import ctypes, sys
PTRACE_SEIZE = 0x4206
libc = ctypes.CDLL(None, use_errno=True)
assert libc.ptrace(PTRACE_SEIZE, int(sys.argv[1]), None, None) == 0, ctypes.get_errno()
print("traced", flush=True)
sys.stdin.read()
"""


def state(pid, thread=None):
    with open(f"/proc/{pid}/task/{thread or pid}/status") as file:
        return re.search(r"State:\s+(\S)", file.read()).group(1)


class FreezeTest(RootTest):
    def ask(self, target):
        target.stdin.write("\n")
        target.stdin.flush()
        return target.stdout.readline().strip()

    def test_a_busy_process_stands_still_for_that_long(self):
        target = self.start_python(BUSY)
        torn = told = at_once = 0
        for _ in range(20):
            self.ask(target)
            found = self.explain(target.pid, "--freeze")
            stood_still = int(self.ask(target))
            # It was paused once, or again where that was in the middle of an allocation. Its threads take turns, and so
            # does the machine: it may have stood longer.
            self.assertGreater(stood_still, found["frozen_ns"] / 5 * 0.5)
            self.assertLess(stood_still, found["frozen_ns"] + 500_000_000)
            at_once += stood_still > found["frozen_ns"] * 0.7
            if found["pymalloc"]["torn_pools"]:
                torn += 1
                told += any("could not be paused again" in sentence for sentence in found["incomplete"])
        self.assertGreater(at_once, 5)
        # Five times in a row in the middle of one: once in a thousand snapshots. Where the machine is slow, five do not
        # fit into the longest pause.
        self.assertLessEqual(torn - told, 1)
        self.assertLess(told, 10)
        print(f"{torn} of 20 snapshots of a paused process are of the middle of an allocation, the last of "
              f"{found['frozen_ns'] / 1e6:.1f} ms", file=sys.stderr)
        self.assertRegex(self.memtrace("explain", "--freeze", "-p", str(target.pid)).stdout,
                         r"It was paused for \d+\.\d ms")

    def test_its_parent_does_not_see_it(self):
        target = self.start_python(BUSY)
        self.assertIsNone(self.explain(target.pid)["frozen_ns"])
        self.assertGreater(self.explain(target.pid, "--freeze")["frozen_ns"], 0)
        self.assertEqual(os.waitpid(target.pid, os.WNOHANG | os.WUNTRACED | os.WCONTINUED), (0, 0))

    def test_a_stopped_process_stays_stopped(self):
        target = self.start_python(LARGE)
        target.send_signal(signal.SIGSTOP)
        os.waitpid(target.pid, os.WUNTRACED)
        self.assertGreater(self.explain(target.pid, "--freeze")["frozen_ns"], 0)
        self.assertEqual(state(target.pid), "T")
        self.assertEqual(os.waitpid(target.pid, os.WNOHANG | os.WCONTINUED), (0, 0))
        target.send_signal(signal.SIGCONT)
        self.assertEqual(self.ask(target), "here")

    def test_signals_are_not_lost(self):
        ask = self.path("ask")
        target = self.start_python(COUNTS_SIGNALS, env={**os.environ, "ASK": ask})
        sent = 0
        for _ in range(5):
            tracer = self.start(MEMTRACE, "explain", "--freeze", "-p", str(target.pid), stdout=subprocess.DEVNULL)
            while tracer.poll() is None:
                target.send_signal(signal.SIGRTMIN)
                sent += 1
                time.sleep(0.0005)
            self.assertEqual(tracer.returncode, 0)
        open(ask, "w").close()
        time.sleep(0.2)  # whatever is still on its way
        target.send_signal(signal.SIGRTMIN)
        self.assertEqual(int(target.stdout.readline()), sent + 1)
        print(f"{sent} signals, none lost", file=sys.stderr)

    def test_one_that_is_traced_already_is_left_alone(self):
        target = self.start_python(LARGE)
        tracer = self.start(PYTHON, "-c", TRACER, str(target.pid), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                            text=True)
        self.assertEqual(tracer.stdout.readline(), "traced\n")
        refused = self.memtrace("explain", "--freeze", "-p", str(target.pid), check=False)
        self.assertEqual(refused.returncode, 125)
        self.assertIn(f"process {tracer.pid} (a debugger, or strace) traces it already", refused.stderr)
        self.assertEqual(self.ask(target), "here")
        self.explain(target.pid)

    def test_it_goes_on_when_memtrace_is_killed(self):
        target = self.start_python(LARGE)
        for number in (signal.SIGKILL, signal.SIGINT):
            for attempt in range(20):
                tracer = self.start(MEMTRACE, "explain", "--freeze", "-p", str(target.pid), stdout=subprocess.DEVNULL)
                while tracer.poll() is None and state(target.pid) != "t":
                    pass
                tracer.send_signal(number)
                if tracer.wait() == -number:
                    break
            self.assertEqual(tracer.returncode, -number)
            wait_until(lambda: state(target.pid) != "t", 5)
            self.assertEqual(self.ask(target), "here")

    def test_one_that_cannot_be_stopped_is_let_go(self):
        library = self.path("libvfork.so")
        subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", library, os.path.join(WORKLOADS, "vfork.c")], check=True)
        target = self.start_python(f"""
import ctypes, sys, threading
def answer():
    while sys.stdin.readline():
        print("here", flush=True)
threading.Thread(target=answer).start()
print("ready", flush=True)
ctypes.CDLL({library!r}).wait_for_child(20)
""")
        wait_until(lambda: state(target.pid) == "D")
        began = time.monotonic()
        refused = self.memtrace("explain", "--freeze", "-p", str(target.pid), check=False)
        self.assertEqual(refused.returncode, 125)
        self.assertIn("could not be paused within 500 ms", refused.stderr)
        self.assertLess(time.monotonic() - began, 10)
        self.assertEqual(self.ask(target), "here")

    def test_threads_that_come_and_go(self):
        target = self.start_python("""
import sys, threading
def answer():
    while sys.stdin.readline():
        print("here", flush=True)
threading.Thread(target=answer).start()
print("ready", flush=True)
while True:
    threads = [threading.Thread(target=list) for i in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
""")
        for _ in range(20):
            self.assertGreater(self.explain(target.pid, "--freeze")["frozen_ns"], 0)
        self.assertEqual(self.ask(target), "here")
