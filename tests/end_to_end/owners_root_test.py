"""--owners: what is resident, by the line that first touched it, against a target that knows who touched each of its pages."""
import json
import os
import unittest

from harness import MIB, PYTHON, SLACK, RootTest, resident_bytes

# Touches the pages of its own mappings by known lines, gives some back, moves some, and says how many of each line's pages
# the kernel has in memory: a shadow of who touched what, kept page by page, against /proc/self/pagemap.
TOUCHES = """
import ctypes, json, mmap, os, struct, sys
PAGE, MIB = 4096, 1 << 20
ANONYMOUS, POPULATE, MAYMOVE, FIXED = 0x22, 0x8000, 1, 2
libc = ctypes.CDLL(None, use_errno=True)
for name in ("mmap", "mremap"):
    getattr(libc, name).restype = ctypes.c_void_p
shadow = {}                                   # page -> who touched it

def owns(who, start, size):
    for at in range(start, start + size, PAGE):
        shadow[at] = who

def map_pages(size, flags=0):
    return libc.mmap(None, ctypes.c_size_t(size), 3, ANONYMOUS | flags, -1, ctypes.c_long(0))   # by populate

def line_a(start, size):
    ctypes.memset(start, 1, size)             # by a
    owns("a", start, size)

def line_b(start, size):
    ctypes.memset(start, 1, size)             # by b
    owns("b", start, size)

def line_c(start, size):                      # every second page, from the last to the first
    for at in reversed(range(start, start + size, 2 * PAGE)):
        ctypes.memset(at, 1, 1)               # by c
        shadow[at] = "c"

def by_the_kernel(start, size, file):         # read(2) touches the buffer
    libc.read(file.fileno(), ctypes.c_void_p(start), ctypes.c_size_t(size))   # by read
    owns("read", start, size)

def advise(start, size, advice):
    assert libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(size), advice) == 0

def unmap(start, size):
    assert libc.munmap(ctypes.c_void_p(start), ctypes.c_size_t(size)) == 0
    for at in range(start, start + size, PAGE):
        shadow.pop(at, None)

def move(start, old_size, size, to=0):
    moved = libc.mremap(ctypes.c_void_p(start), ctypes.c_size_t(old_size), ctypes.c_size_t(size), MAYMOVE | (FIXED if to else 0),
                        ctypes.c_void_p(to))
    owners = [shadow.pop(start + at, None) for at in range(0, old_size, PAGE)]
    for i, who in enumerate(owners[:size // PAGE]):
        if who:
            shadow[moved + i * PAGE] = who
    return moved

def present(start, size):
    with open("/proc/self/pagemap", "rb") as file:
        file.seek(start // PAGE * 8)
        words = struct.unpack(f"{size // PAGE}Q", file.read(size // PAGE * 8))
    return [start + i * PAGE for i, word in enumerate(words) if word >> 63]

print("ready", flush=True)
sys.stdin.readline()
base = map_pages(64 * MIB)
spare = map_pages(16 * MIB)
unmap(spare, 16 * MIB)                        # where the moved part will go
line_a(base, 20 * MIB)
line_b(base + 20 * MIB, 12 * MIB)
line_c(base + 32 * MIB, 16 * MIB)
with open("/dev/zero", "rb") as zero:
    by_the_kernel(base + 48 * MIB, 4 * MIB, zero)
advise(base + 2 * MIB, 4 * MIB, 4)            # MADV_DONTNEED: line a's
line_b(base + 3 * MIB, MIB)                   # and a part again, by b
advise(base + 8 * MIB, MIB, 8)                # MADV_FREE: stays until the kernel takes it
moved = move(base + 16 * MIB, 8 * MIB, 8 * MIB, spare)    # 4 MiB of a, 4 MiB of b
ctypes.memset(moved + 2 * MIB, 2, MIB)        # resident already: it stays a's
unmap(base + 36 * MIB, 4 * MIB)               # of c
moved = move(moved, 8 * MIB, 6 * MIB)         # its tail is unmapped
ranges = [(base, 16 * MIB), (base + 24 * MIB, 12 * MIB), (base + 40 * MIB, 24 * MIB), (moved, 6 * MIB)]
populated = map_pages(3 * MIB, POPULATE)
owns("populate", populated, 3 * MIB)
ranges.append((populated, 3 * MIB))
pages = {}
for start, size in ranges:
    for at in present(start, size):
        pages[shadow[at]] = pages.get(shadow[at], 0) + PAGE
print(json.dumps(pages), flush=True)
sys.stdin.readline()
"""

FORK = """
import mmap, os, sys, time
memory = mmap.mmap(-1, 24 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
print("ready", flush=True)
sys.stdin.readline()
def before():
    for at in range(0, 16 << 20, 4096):
        memory[at] = 1                        # by parent
def after():
    for at in range(16 << 20, 24 << 20, 4096):
        memory[at] = 1                        # by child
before()
if os.fork() == 0:
    after()
    print("done", flush=True)
    time.sleep(1000)
time.sleep(1000)
"""


def line_by(source, who):
    return next(i for i, line in enumerate(source.split("\n"), 1) if line.endswith("# by " + who))


def bytes_by_line(process, file="target.py"):
    return {row["line"]: row["resident_bytes"] for row in process["resident"]["lines"]
            if row["file"] and os.path.basename(row["file"]) == file}


def bytes_by_owner(process):
    return {row["owner"]: row["resident_bytes"] for row in process["resident"]["lines"] if row["owner"]}


class OwnersTest(RootTest):
    def assert_adds_up(self, process, rss):
        resident = process["resident"]
        self.assertTrue(resident["checked"])
        self.assertEqual(sum(row["resident_bytes"] for row in resident["lines"]) + resident["unexplained_bytes"],
                         process["rss"]["end_bytes"])
        self.assertLessEqual(abs(resident["unexplained_bytes"]), max(rss // 100, SLACK))
        self.assertEqual(resident["owner_ranges"]["dropped"], 0)

    def test_every_page_is_its_toucher_s(self):
        target = self.start_python(TOUCHES)
        tracer = self.attach("-p", str(target.pid), "--owners")
        target.stdin.write("\n")
        target.stdin.flush()
        expected = json.loads(target.stdout.readline())
        process = self.finish(tracer)["processes"][0]
        self.assert_adds_up(process, resident_bytes(target.pid))
        self.assertEqual({who: size // MIB for who, size in expected.items()}, {"a": 16, "b": 11, "c": 6, "read": 4,
                                                                                     "populate": 3})
        found = bytes_by_line(process)
        for who, size in expected.items():
            # Each iteration makes some objects too.
            self.assertAlmostEqual(found[line_by(TOUCHES, who)], size, delta=SLACK, msg=who)
        self.assertLess(bytes_by_owner(process).get("[address unknown]", 0), SLACK)

    def test_before_attach_and_after_add_up(self):
        target = self.start_python("ballast = bytearray(20 << 20)\\nballast[::4096] = bytes(len(ballast[::4096]))\\n"
                                   "print('ready', flush=True)\\nimport sys\\nsys.stdin.readline()\\n"
                                   "more = bytearray(30 << 20)\\nmore[::4096] = bytes(len(more[::4096]))\\n"
                                   "print('done', flush=True)\\nsys.stdin.readline()\\n".replace("\\n", "\n"))
        before = resident_bytes(target.pid)
        process = self.trace_step(target, "--owners")["processes"][0]
        self.assert_adds_up(process, resident_bytes(target.pid))
        self.assertAlmostEqual(bytes_by_owner(process)["[before attach]"], before, delta=SLACK)
        self.assertAlmostEqual(bytes_by_line(process)[6], 30 * MIB, delta=SLACK)

    def test_a_forked_child_inherits(self):
        target = self.start_python(FORK)
        tracer = self.attach("-p", str(target.pid), "--owners")
        target.stdin.write("\n")
        target.stdin.flush()
        self.assertEqual(target.stdout.readline(), "done\n")
        parent, child = self.finish(tracer)["processes"]
        self.addCleanup(os.kill, child["pid"], 9)
        for process, lines in ((parent, {"parent": 16 * MIB}), (child, {"parent": 16 * MIB, "child": 8 * MIB})):
            self.assert_adds_up(process, resident_bytes(process["pid"]))
            self.assertLess(bytes_by_owner(process).get("[address unknown]", 0), SLACK)
            found = bytes_by_line(process)
            for who, size in lines.items():
                self.assertAlmostEqual(found.get(line_by(FORK, who), 0), size, delta=SLACK, msg=process["resident"])
        self.assertGreater(bytes_by_owner(child)["[before attach]"], MIB)

    def test_many_children_make_room(self):
        """Each has the ranges of its parent, some thousand, until it ends."""
        source = ("import mmap, os, time\nm = mmap.mmap(-1, 64 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)\n"
                  "for at in range(0, 64 << 20, 8192):\n    m[at] = 1\nfor _ in range(60):\n    pid = os.fork()\n"
                  "    if pid == 0:\n        os._exit(0)\n    os.waitpid(pid, 0)\n    time.sleep(0.2)\n")
        processes = self.run_report(PYTHON, self.write("target.py", source), options=["--owners"])["processes"]
        self.assertEqual(len(processes), 61)
        for process in processes[1:]:
            self.assertGreater(process["resident"]["owner_ranges"]["count"], 8000)
            self.assertEqual(process["resident"]["owner_ranges"]["dropped"], 0)
            self.assertAlmostEqual(bytes_by_line(process)[4], 32 * MIB, delta=SLACK)

    def test_what_no_fault_told_is_unknown(self):
        """mlock(2) makes pages resident without a fault of the thread's."""
        target = self.start_python("import ctypes, mmap, sys\nlibc = ctypes.CDLL(None)\nm = mmap.mmap(-1, 8 << 20)\n"
                                   "at = ctypes.addressof(ctypes.c_char.from_buffer(m))\nprint('ready', flush=True)\n"
                                   "sys.stdin.readline()\nassert libc.mlock(ctypes.c_void_p(at), 8 << 20) == 0\n"
                                   "print('done', flush=True)\nsys.stdin.readline()\n")
        process = self.trace_step(target, "--owners")["processes"][0]
        self.assertAlmostEqual(bytes_by_owner(process)["[address unknown]"], 8 * MIB, delta=SLACK)
        self.assert_adds_up(process, resident_bytes(target.pid))

    def test_a_program_that_has_ended(self):
        """It cannot be asked for its pages: what it was told to have must come near."""
        process = self.run_report(PYTHON, self.write("target.py", "keep = bytearray(120 << 20)\n"
                                                     "keep[::4096] = bytes(len(keep[::4096]))\n"
                                                     "import os; os._exit(0)\n"), options=["--owners"])["processes"][0]
        self.assertFalse(process["resident"]["checked"])
        self.assertAlmostEqual(bytes_by_line(process)[1], 120 * MIB, delta=SLACK)
        self.assertLess(abs(process["resident"]["unexplained_bytes"]), process["rss"]["end_bytes"] // 100)

    def test_lines_behind_pinned_arenas(self):
        """The report ends with why memory is resident; here with the line that made what keeps the arenas."""
        target = self.start_python("import sys\nprint('ready', flush=True)\nsys.stdin.readline()\n"
                                   "keep = [bytes(bytearray(200)) for i in range(400000)]\nkeep = keep[::2000]\n"
                                   "print('done', flush=True)\nsys.stdin.readline()\n")
        process = self.trace_step(target, "--owners")["processes"][0]
        self.assertEqual(sum(layer["resident_bytes"] for layer in process["layers"]), process["rss"]["end_bytes"])
        first = process["findings"][0]
        self.assertEqual(first["cause"], "arena_pinned")
        self.assertIn("target.py:4 ", first["evidence"]["lines"][0]["line"])
        self.assertGreater(first["evidence"]["lines"][0]["objects"], 100)

    def test_not_asked_for(self):
        process = self.run_report(PYTHON, "-c", "pass")["processes"][0]
        self.assertIsNone(process["resident"])


if __name__ == "__main__":
    unittest.main()
