# memtrace explain reads mimalloc from outside: what it says is what CPython says of itself.
import collections
import os
import re
import struct
import subprocess
import sys

from harness import PYTHON, RootTest, interpreters, wait_until

# Objects of all sizes, a part of them freed, and then nothing that allocates. It writes how many blocks it has in use.
STANDS_STILL = """
import mmap, signal, sys
blocks, wait, stats = sys.getallocatedblocks, signal.pause, sys._debugmallocstats
with open(sys.argv[1], "r+b") as file:
    said = memoryview(mmap.mmap(file.fileno(), 16)).cast("q")
keep = [bytes(33 + i % 480) for i in range(100000)] + [bytes(i * 100) for i in range(1000)] + [bytes(20 << 20)]
del keep[:60000:3]
stats()
said[0] = blocks()
said[0] = blocks()
said[1] = 1
wait()
"""
# Takes a step for each byte it is sent, and answers. Nothing else in it is of 48 or of 1,280 bytes.
STEPS = """
import os, threading
class Slotted:
    __slots__ = ("a", "b")
few, many = 5000, 10000
keep = [None] * (few + many)
def fill():
    for i in range(many):
        keep[i] = Slotted()
    for i in range(many, many + few):
        keep[i] = bytes(1100)
def clear():
    for i in range(many + few):
        keep[i] = None
def clear_some():
    for i in range(0, many + few, 2):
        keep[i] = None
def in_thread(work):
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
def huge():
    global large
    large = bytearray(b"x" * (40 << 20))
def no_huge():
    global large
    large = None
steps = {b"f": fill, b"c": clear, b"s": clear_some, b"F": lambda: in_thread(fill), b"S": lambda: in_thread(clear_some),
         b"h": huge, b"H": no_huge, b"t": lambda: in_thread(list), b".": lambda: None}
fill(), clear()
while True:
    os.write(1, b"\\n")
    steps[os.read(0, 1)]()
"""
BUSY = """
import threading
def work():
    while True:
        keep = [bytes(i % 900) for i in range(20000)]
        shared[:] = keep[::2]
        del keep[::2]
shared = []
for i in range(4):
    threading.Thread(target=work, daemon=True).start()
print(flush=True)
work()
"""


def with_mimalloc():
    """All interpreters that have it, and the environment in which they use it."""
    for interpreter in interpreters():
        if int(interpreter.version.split(".")[1]) >= 13:
            yield interpreter, {} if interpreter.free_threaded else {"PYTHONMALLOC": "mimalloc"}


class MimallocTest(RootTest):
    def start_with(self, interpreter, environment, source, *args, **options):
        return self.start(*interpreter.command(self.write("target.py", source), *args),
                          env={**os.environ, **environment}, **options)

    def steps(self, interpreter, environment):
        """A process and how to let it take a step, which gives what explain then says."""
        target = self.start_with(interpreter, environment, STEPS, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        target.stdout.read(1)

        def step(what):
            target.stdin.write(what)
            target.stdin.flush()
            target.stdout.read(1)
            # A thread that was joined may still give back what it had.
            wait_until(lambda: len(os.listdir(f"/proc/{target.pid}/task")) == 1)
            mimalloc = self.explain(target.pid)["mimalloc"]
            self.assertEqual(mimalloc["torn_segments"] + mimalloc["torn_pages"], 0)
            return mimalloc
        for what in (b"t", b"t", b"."):
            step(what)
        return step

    def live(self, mimalloc):
        return collections.Counter({row["block_bytes"]: row["live_blocks"] for row in mimalloc["classes"]})

    def test_blocks_are_what_the_interpreter_says(self):
        """To the block and, where it prints them, to the byte."""
        compared = 0
        for interpreter, environment in with_mimalloc():
            with self.subTest(interpreter=interpreter.name):
                said = f"/tmp/said.{os.getpid()}." + interpreter.name.replace(" ", "-")
                outside = interpreter.tree + said
                with open(outside, "wb") as file:
                    file.write(bytes(16))
                with open(self.path("stats"), "w") as errors:
                    target = self.start_with(interpreter, environment, STANDS_STILL, said, stderr=errors)

                def figures():
                    with open(outside, "rb") as file:
                        return struct.unpack("qq", file.read())
                wait_until(lambda: figures()[1] or target.poll() is not None)
                self.addCleanup(os.remove, outside)
                self.assertIsNone(target.poll())
                found = self.explain(target.pid)
                mimalloc = found["mimalloc"]
                self.assertIsNone(found["pymalloc"])
                self.assertEqual(mimalloc["live_blocks"], figures()[0])
                with open(self.path("stats")) as file:
                    own = re.search(r"Allocated Bytes: (\d+)", file.read())
                if not interpreter.free_threaded:  # which prints 0: the heap that it looks at is not in use
                    self.assertEqual(mimalloc["live_bytes"], int(own.group(1)))
                self.assertEqual(mimalloc["torn_segments"] + mimalloc["torn_pages"], 0)
                layers = {layer["owner"]: layer["resident_bytes"] for layer in found["layers"]}
                self.assertEqual(sum(size for owner, size in layers.items() if owner.startswith("mimalloc")),
                                 sum(segment["resident_bytes"] for segment in mimalloc["segments"]))
                for owner, size in layers.items():
                    self.assertGreaterEqual(size, 0, owner)
                self.assertLess(layers["anonymous"], 1 << 20)
                self.assertEqual([segment["huge"] for segment in mimalloc["segments"]].count(True), 1)
                compared += 1
                print(f"{interpreter.name}: {mimalloc['live_blocks']} blocks, {mimalloc['live_bytes']} bytes in use",
                      file=sys.stderr)
        self.assertGreaterEqual(compared, 2)

    def test_known_objects_are_counted(self):
        """Made and freed by the main thread; and freed by another one, whose frees wait for the first to look."""
        for interpreter, environment in with_mimalloc():
            with self.subTest(interpreter=interpreter.name):
                step = self.steps(interpreter, environment)
                before = self.live(step(b"."))
                for what, slotted, strings in ((b"f", 10000, 5000), (b"s", 5000, 2500), (b"c", 0, 0),
                                               (b"f", 10000, 5000), (b"S", 5000, 2500), (b"c", 0, 0)):
                    now = self.live(step(what))
                    self.assertEqual((now[48] - before[48], now[1280] - before[1280]), (slotted, strings), what)

    def test_a_thread_leaves_segments_behind(self):
        for interpreter, environment in with_mimalloc():
            with self.subTest(interpreter=interpreter.name):
                step = self.steps(interpreter, environment)
                before = self.live(step(b"."))
                after = step(b"F")
                left = [segment for segment in after["segments"] if segment["state"] == "abandoned"]
                self.assertGreaterEqual(sum(segment["live_blocks"] for segment in left), 15000)
                now = self.live(after)
                self.assertEqual((now[48] - before[48], now[1280] - before[1280]), (10000, 5000))
                now = self.live(step(b"s"))
                self.assertEqual((now[48] - before[48], now[1280] - before[1280]), (5000, 2500))

    def test_a_huge_block_has_a_segment(self):
        for interpreter, environment in with_mimalloc():
            with self.subTest(interpreter=interpreter.name):
                step = self.steps(interpreter, environment)
                self.assertFalse(any(segment["huge"] and segment["live_blocks"] for segment in step(b".")["segments"]))
                huge = [segment for segment in step(b"h")["segments"] if segment["huge"] and segment["live_blocks"]]
                self.assertEqual(len(huge), 1)
                self.assertGreater(huge[0]["bytes"], 40 << 20)
                self.assertGreater(huge[0]["resident_bytes"], 40 << 20)
                self.assertFalse(any(segment["huge"] and segment["live_blocks"] for segment in step(b"H")["segments"]))

    def test_a_busy_process_is_read_without_harm(self):
        for interpreter, environment in with_mimalloc():
            if not interpreter.free_threaded:
                continue
            with self.subTest(interpreter=interpreter.name):
                target = self.start_with(interpreter, environment, BUSY, stdout=subprocess.PIPE)
                target.stdout.readline()
                torn = 0
                for _ in range(20):
                    mimalloc = self.explain(target.pid)["mimalloc"]
                    torn += mimalloc["torn_segments"] + mimalloc["torn_pages"] > 0
                self.assertIsNone(target.poll())
                print(f"{torn} of 20 snapshots of a busy process had a contradiction", file=sys.stderr)

    def test_the_table_says_it(self):
        interpreter, environment = next(with_mimalloc())
        target = self.start_with(interpreter, environment, STEPS, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        target.stdout.read(1)
        table = self.memtrace("explain", "-p", str(target.pid)).stdout
        self.assertRegex(table, r"mimalloc in \d+ segment")
        self.assertRegex(table, r"(?m)^ +[1-9]\d* +\d+ +\d+\.\d\d MiB +\d+\.\d\d MiB   of threads$")
        self.assertNotIn("uses another one", table)

    def test_pymalloc_is_no_mimalloc(self):
        target = self.start_python("print(flush=True)\nimport signal\nsignal.pause()", python=PYTHON)
        self.assertIsNone(self.explain(target.pid)["mimalloc"])
        for interpreter, _ in with_mimalloc():
            if interpreter.free_threaded:
                continue
            with self.subTest(interpreter=interpreter.name):
                target = self.start_with(interpreter, {}, STEPS, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
                target.stdout.read(1)
                found = self.explain(target.pid)
                self.assertIsNone(found["mimalloc"])
                self.assertIsNotNone(found["pymalloc"])
