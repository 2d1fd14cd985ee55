"""Pages that parent and child have in common until one writes: by line, against the page tables of the children."""
import os
import re
import signal
import subprocess
import unittest

from harness import MIB, PYTHON, SLACK, RootTest, interpreters

# Two children read what was made before the fork, and so write to its reference counts; one does not.
PREFORK = """
import gc, os, sys, time
data = [float(i) for i in range(1_000_000)]
print("ready", flush=True)
sys.stdin.readline()
if "freeze" in sys.argv:
    gc.freeze()
def measure():                                # lets the test ask for our pages
    print(os.getpid(), flush=True)
    sys.stdin.readline()
def read():
    for item in data:                         # by readers
        pass
def idle():
    time.sleep(0.01)
def write():
    for at in range(0, len(data), 512):
        data[at] = None                       # by the writer
def collect():
    time.sleep(1)                             # until memtrace listens to this process too
    gc.collect()                              # by the collector
for work in {"read": (read, read, idle), "write": (write,), "collect": (collect,)}[sys.argv[1]]:
    reader, writer = os.pipe()
    if os.fork() == 0:
        measure()                             # its own code and buffers are copied now
        measure()
        work()
        measure()
        os.write(writer, b"1")
        time.sleep(1000)
    os.read(reader, 1)
    print(work.__name__, flush=True)
if sys.argv[1] == "read":
    for at in range(0, len(data)):            # the array, and the objects
        data[at] = None
print("done", flush=True)
time.sleep(1000)
"""


def line_by(who):
    return next(i for i, line in enumerate(PREFORK.split("\n"), 1) if re.search(f"# by {who}\\b", line))


def copied(process, who, what="bytes"):
    return sum(row[what] for row in process["copy_on_write"]["lines"] if row["line"] == line_by(who))


# A child that has all of its parent's objects, and touches none.
FORKED = """
import gc, os, sys, time
rows = [{"id": i, "name": "row %d" % i} for i in range(150_000)]
gc.freeze()
child = os.fork()
if child == 0:
    time.sleep(1000)
print(child, flush=True)
time.sleep(1000)
"""


class CopyOnWriteTest(RootTest):
    def trace(self, *args, interpreter=None):
        """The report's processes, and by how much each child's own memory has grown, by the page tables."""
        interpreter = interpreter or interpreters()[0]
        target = self.start(*interpreter.command(self.write("prefork.py", PREFORK), *args), stdin=-1, stdout=-1, text=True)
        target.stdout.readline()
        tracer = self.attach("-p", str(target.pid), "--owners")
        target.stdin.write("\n")
        target.stdin.flush()
        said, private = [], []
        while (line := target.stdout.readline()) != "done\n":
            if not line.strip().isdigit():
                said.append((line.strip(), private[-1] - private[-2]))
                continue
            with open(f"/proc/{line.strip()}/smaps_rollup") as file:
                private.append(next(int(row.split()[1]) << 10 for row in file if row.startswith("Private_Dirty")))
            target.stdin.write("\n")
            target.stdin.flush()
        report = self.finish(tracer)
        for process in report["processes"][1:]:
            self.addCleanup(os.kill, process["pid"], 9)
        self.assert_conserved(report)
        for process in report["processes"]:
            copies = process["copy_on_write"]
            for what in ("bytes", "header_bytes"):
                self.assertEqual(copies[what], sum(row[what] for row in copies["lines"]))
            self.assertEqual(copies["bytes"], copies["pages"] * 4096)
        return report["processes"], said

    def test_reading_copies_what_holds_reference_counts(self):
        seen = 0
        for interpreter in interpreters():
            if interpreter.version in ("3.9", "3.11", "3.13") and not interpreter.free_threaded:
                with self.subTest(interpreter=interpreter.name):
                    self.check_reading(interpreter)
                    seen += 1
        self.assertGreater(seen, 0)

    def check_reading(self, interpreter):
        (parent, *children), said = self.trace("read", interpreter=interpreter)
        self.assertEqual([name for name, _ in said], ["read", "read", "idle"])
        for child, (name, private) in zip(children, said):
            if name == "idle":
                self.assertLess(child["copy_on_write"]["bytes"], 2 * MIB)
                continue
            self.assertGreater(private, 30 * MIB)  # 32 bytes each
            self.assertAlmostEqual(copied(child, "readers"), private, delta=private // 20)
            self.assertGreater(copied(child, "readers", "header_bytes"), private * 0.95)
            first = child["findings"][0]
            self.assertEqual((first["cause"], first["bytes"]), ("copy_on_write", child["copy_on_write"]["bytes"]))
            self.assertRegex(first["evidence"]["lines"][0]["line"], rf":{line_by('readers')} \(read\)$")
            # RSS does not tell: what the child has touched by itself is next to nothing.
            rows = {row["line"]: row["grown_bytes"] for row in child["lines"] if row["function"] == "read"}
            self.assertLess(rows.get(line_by("readers"), 0), MIB)
        # The list's array of 8 bytes each, which the children only read, and the objects, which the idle child has too.
        self.assertGreater(parent["copy_on_write"]["bytes"], 36 * MIB)

    def test_writing_to_the_list_itself(self):
        (_, child), ((_, private),) = self.trace("write")
        # One write a page of the array (8 bytes an entry), and one reference count a page of objects.
        self.assertGreater(private, 14 * MIB)
        self.assertAlmostEqual(copied(child, "the writer"), private, delta=private // 20)
        # The array is data, and so are the headers of pools, in one of whose four pages the object lies that is freed.
        data = copied(child, "the writer") - copied(child, "the writer", "header_bytes")
        self.assertAlmostEqual(data, (8 + 8 * 3 / 4) * 1000 * 1000, delta=MIB)

    def remedies(self, process):
        finding = next(finding for finding in process["findings"] if finding["cause"] == "copy_on_write")
        return {row["action"]: row for row in finding["remedies"]}, finding["evidence"]["collection_bytes"]

    def test_a_collection_writes_to_what_it_looks_at(self):
        """gc.freeze() before the fork keeps it from doing so, and gives no more than was said."""
        (_, child), ((_, private),) = self.trace("collect")
        self.assertAlmostEqual(copied(child, "the collector"), private, delta=max(private // 20, SLACK))
        self.assertGreater(copied(child, "the collector", "header_bytes"), copied(child, "the collector") * 0.6)
        (_, frozen), _ = self.trace("collect", "freeze")
        self.assertGreater(copied(child, "the collector"), 256 << 10)
        self.assertLess(copied(frozen, "the collector"), copied(child, "the collector") // 2)
        remedies, collected = self.remedies(child)
        said, = (row["at_most_bytes"] for action, row in remedies.items() if "gc.freeze()" in action)
        self.assertEqual(said, collected)
        gave = copied(child, "the collector") - copied(frozen, "the collector")
        self.assertGreaterEqual(said, gave)
        self.assertLess(said, gave * 2 + SLACK)

    def test_gc_freeze_is_no_remedy_where_nothing_was_collected(self):
        """What reading has copied is as much with it."""
        (_, child, *_), _ = self.trace("read")
        (_, frozen, *_), _ = self.trace("read", "freeze")
        self.assertAlmostEqual(copied(child, "readers"), copied(frozen, "readers"), delta=MIB)
        remedies, collected = self.remedies(child)
        self.assertLess(collected, 64 << 10)
        self.assertEqual([action for action in remedies if "gc.freeze()" in action], [])

    def test_what_the_kernel_gives_to_who_is_left_is_no_copy(self):
        """After its child has ended, the parent faults once a page, and keeps the pages."""
        target = self.start_python(
            "import mmap, os, sys\nm = mmap.mmap(-1, 16 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)\n"
            "for at in range(0, 16 << 20, 4096):\n    m[at] = 1\nprint('ready', flush=True)\nsys.stdin.readline()\n"
            "pid = os.fork()\nif pid == 0:\n    os._exit(0)\nos.waitpid(pid, 0)\n"
            "for at in range(0, 16 << 20, 4096):\n    m[at] = 2\nprint('done', flush=True)\nsys.stdin.readline()\n")
        parent = self.trace_step(target, "--owners")["processes"][0]
        self.assertLess(parent["copy_on_write"]["bytes"], MIB)

    def test_a_file_s_private_pages_are_no_copies_of_another_process_s(self):
        path = self.write("data", "x" * (8 << 20))
        target = self.start_python(
            f"import mmap, sys\nfile = open('{path}', 'r+b')\nm = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)\n"
            "sum(m[::4096])\nprint('ready', flush=True)\nsys.stdin.readline()\n"
            "for at in range(0, 8 << 20, 4096):\n    m[at] = 2\nprint('done', flush=True)\nsys.stdin.readline()\n")
        process = self.trace_step(target, "--owners")["processes"][0]
        self.assertGreaterEqual(process["members"]["anonymous"]["grown_bytes"], 8 * MIB)
        self.assertLess(process["copy_on_write"]["bytes"], SLACK)

    def test_to_look_leaves_pages_in_common(self):
        parent = self.start(PYTHON, "-c", FORKED, stdout=subprocess.PIPE, text=True)
        child = int(parent.stdout.readline())
        self.addCleanup(os.kill, child, signal.SIGKILL)

        def own_bytes():
            with open(f"/proc/{child}/smaps_rollup") as file:
                return int(re.search(r"Private_Dirty:\s+(\d+) kB", file.read()).group(1)) << 10
        before = own_bytes()
        report = self.explain(child)
        self.assertGreater(report["objects"]["types"][0]["bytes"], 5 * MIB)  # what it has in common was read
        self.memtrace("-q", "-p", str(child), "-d", "2.5")
        self.assertLess(own_bytes() - before, MIB)


if __name__ == "__main__":
    unittest.main()
