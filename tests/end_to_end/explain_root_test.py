# memtrace explain reads the allocators of a process from outside: what it says is what they say of themselves.
import glob
import json
import os
import re
import shutil
import subprocess
import sys
import time

from harness import (MEMTRACE, MIB, NOBODY, PYTHON, ROOT, RootTest, WORKLOADS, claim_version, interpreters, resident_bytes,
                     wait_until)

# Objects of all sizes, a part of them freed, and then nothing that allocates: the figures stand still.
STANDS_STILL = """
import signal, sys
keep = [bytes(33 + i % 480) for i in range(300000)]
del keep[::3], keep[100000:150000]
stats, wait = sys._debugmallocstats, signal.pause
stats()
wait()
"""
# Makes as many objects of many types as it is told to; before, it made some and dropped them, so that all that making them needs
# is there. Then it says how many objects of each type its garbage collector knows of.
CENSUS = """
import gc, json, sys
class Plain(object):
    def __init__(self, i):
        self.i = self.j = i
class Slotted(object):
    __slots__ = "a", "b"
class Listed(list):
    pass
def make(count):
    made = [None] * (11 * count)
    for i in range(count):
        made[11 * i:11 * i + 11] = (i + 1000000, i + 0.5, "text %d" % i, bytearray(b"x"), (made, i), [None], {i: None}, {None},
                                    complex(i, 1), Plain(None), Slotted())
    return made
def counts():
    found = {}
    for one in gc.get_objects():
        name = type(one).__name__
        found[name] = found.get(name, 0) + 1
    return found
made = make(100)
counts()
made = None
while True:
    made = make(int(sys.stdin.readline()))
    gc.collect()
    text = json.dumps(counts()) + "\\n"
    gc.collect()
    sys.stdout.write(text)
    sys.stdout.flush()
    del text
"""
# Objects of the C library's, which a thread keeps for the next of their size when they are freed: seven of each.
FREED = """
import sys
class Row(tuple):
    __slots__ = ()
rows = [Row([None] * (65 + 2 * (i % 20))) for i in range(100)]
while True:
    print("ready")
    sys.stdout.flush()
    sys.stdin.readline()
    del rows[50:]
"""
# Blocks of C code that begin with an address and a type; and some with what a list left behind that had their place.
ADDRESSES = """
import ctypes, sys
objects = [complex(i, 1) for i in range(100)]
allocate = ctypes.pythonapi.PyObject_Malloc
allocate.restype, allocate.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
for i in range(5000):
    words = (ctypes.c_uint64 * 4).from_address(allocate(32))
    words[:] = 0x40500000 + 8 * i, id(complex), 0, 0
    words = (ctypes.c_uint64 * 8).from_address(allocate(64))
    words[:] = id(objects), 0, 1, id(list), 0, 0, 0, 0
print("ready")
sys.stdout.flush()
sys.stdin.readline()
"""
# Few objects alive in each of many arenas.
PINNED = """
import signal
keep = [bytes(200) for i in range(400000)]
keep = keep[::2000]
print(len(keep), flush=True)
signal.pause()
"""


def own_figures(text):
    """What sys._debugmallocstats() printed: of each block size, and in all."""
    number = r"([\d,]+)"
    classes = {int(size): tuple(map(int, (pools, live, free))) for size, pools, live, free in
               re.findall(r"^\s*\d+\s+(\d+)\s+(\d+)\s+(\d+)\s+(\d+)\s*$", text, re.M)}

    def figure(pattern):
        return int(re.search(pattern, text).group(1).replace(",", ""))

    return {
        "classes": classes,
        "arenas": figure(r"# arenas allocated current\s+=\s+" + number),
        "arena_bytes": figure(r"arenas \* " + number + " bytes/arena"),
        "live_bytes": figure(r"# bytes in allocated blocks\s+=\s+" + number),
        "free_block_bytes": figure(r"# bytes in available blocks\s+=\s+" + number),
        "free_pools": figure(r"(?m)^" + number + r" unused pools \*"),
        "pool_header_bytes": figure(r"# bytes lost to pool headers\s+=\s+" + number),
        "quantization_bytes": figure(r"# bytes lost to quantization\s+=\s+" + number),
    }


class ExplainTest(RootTest):
    def standing_still(self, interpreter):
        """A process of this interpreter, and what it says of its allocator."""
        path = self.path("stats")
        with open(path, "w") as file:
            target = self.start(*interpreter.command(self.write("still.py", STANDS_STILL)), stderr=file)
        deadline = time.monotonic() + 60
        text = ""
        while not re.search(r"^\s*Total .*\n[^$]*", text, re.M) or "sleeping" not in self.state(target.pid):
            self.assertLess(time.monotonic(), deadline, text)
            time.sleep(0.05)
            with open(path) as file:
                text = file.read()
        time.sleep(0.2)
        with open(path) as file:
            return target, own_figures(file.read())

    def state(self, pid):
        with open(f"/proc/{pid}/status") as file:
            return re.search(r"State:.*", file.read()).group(0)

    def test_pymalloc_is_what_the_interpreter_says(self):
        """Every size class, and every sum, on all interpreters that say."""
        compared = 0
        for interpreter in interpreters():
            if interpreter.version == "2.7" or interpreter.free_threaded:
                continue
            with self.subTest(interpreter=interpreter.name):
                target, own = self.standing_still(interpreter)
                pymalloc = self.explain(target.pid)["pymalloc"]
                ours = {row["block_bytes"]: (row["pools"], row["live_blocks"], row["free_blocks"])
                        for row in pymalloc["classes"]}
                self.assertEqual(ours, own["classes"])
                self.assertEqual(len(pymalloc["arenas"]), own["arenas"])
                for key in ("arena_bytes", "live_bytes", "free_block_bytes", "free_pools", "pool_header_bytes",
                            "quantization_bytes"):
                    self.assertEqual(pymalloc[key], own[key], key)
                self.assertEqual(pymalloc["torn_pools"] + pymalloc["absent_pools"], 0)
                compared += len(own["classes"])
        self.assertGreaterEqual(compared, 3 * 25)
        print(f"{compared} size classes compared, 0 differ", file=sys.stderr)

    def test_objects_are_those_of_the_process(self):
        """Those that it makes, one by one; and all that its garbage collector knows of."""
        count, compared = 1000, 0
        for interpreter in interpreters():
            if interpreter.free_threaded:
                continue
            version = [int(part) for part in interpreter.version.split(".")]
            made = dict.fromkeys(["str", "float", "bytearray", "tuple", "list", "dict", "set", "complex", "Plain", "Slotted"], count)
            made["int"] = count + max(0, count - (257 if version < [3, 15] else 1025))  # small ones are there from the start
            if version < [3, 11]:
                made["dict"] *= 2  # a Plain has one
            if version >= [3, 15]:
                made["bytes"] = count  # a bytearray has one
            with self.subTest(interpreter=interpreter.name):
                target = self.start(*interpreter.command(self.write("census.py", CENSUS)), stdin=subprocess.PIPE,
                                    stdout=subprocess.PIPE, text=True)
                # 3.14 needs some rounds to come to rest.
                before, last = self.census(target, 0)[0], None
                for _ in range(20):
                    if before == last:
                        break
                    before, last = self.census(target, 0)[0], before
                self.assertEqual(before, last)
                after, own = self.census(target, count)
                self.assertEqual({name: after[name] - before.get(name, 0) for name in after
                                  if after[name] != before.get(name, 0)}, made)
                # The collector does not know of those that can be in no cycle.
                for name in sorted(own):
                    if name in ("dict", "tuple", "frozenset", "frame", "type", "builtin_function_or_method"):
                        self.assertGreaterEqual(after[name], own[name] - 1, name)  # its own table of counts is gone
                    else:
                        self.assertEqual(after.get(name), own[name], name)
                compared += len(own)
        print(f"{compared} types compared with what the garbage collector knows, 0 differ", file=sys.stderr)

    def test_what_was_freed_is_no_object(self):
        compared = 0
        for interpreter in interpreters():
            if interpreter.free_threaded:
                continue
            with self.subTest(interpreter=interpreter.name):
                target = self.start(*interpreter.command(self.write("freed.py", FREED)), stdin=subprocess.PIPE,
                                    stdout=subprocess.PIPE)
                counted = []
                for _ in range(2):
                    target.stdout.readline()
                    wait_until(lambda: "sleeping" in self.state(target.pid))
                    types = self.explain(target.pid)["objects"]["types"]
                    counted.append(sum(row["objects"] for row in types if row["type"].rpartition(".")[2] == "Row"))
                    target.stdin.write(b"go on\n")
                    target.stdin.flush()
                self.assertEqual(counted, [100, 50])
                compared += 1
        self.assertGreaterEqual(compared, 3)

    def test_an_address_is_no_count_of_references(self):
        """Blocks of C code that begin like an object that never dies, but for an address of the first 2 GiB; or that have
        what an object left, and one of their own words where the collector's were."""
        compared = 0
        for interpreter in interpreters():
            if interpreter.free_threaded:
                continue
            with self.subTest(interpreter=interpreter.name):
                program = self.write("addresses.py", ADDRESSES)
                target = self.start(*interpreter.command(program), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
                target.stdout.readline()
                types = {row["type"]: row["objects"] for row in self.explain(target.pid)["objects"]["types"]}
                self.assertGreaterEqual(types["complex"], 100)
                self.assertLess(types["complex"], 200)
                self.assertLess(types["list"], 5000)
                compared += 1
        self.assertGreaterEqual(compared, 3)

    def census(self, target, count):
        """Objects by type, as memtrace sees them, and as the garbage collector does, which leaves many out."""
        target.stdin.write(f"{count}\n")
        target.stdin.flush()
        own = json.loads(target.stdout.readline())
        wait_until(lambda: "sleeping" in self.state(target.pid))
        found = {}
        for row in self.explain(target.pid)["objects"]["types"]:
            name = row["type"].rpartition(".")[2]
            found[name] = found.get(name, 0) + row["objects"]
        return found, own

    def start_mess(self, interpreter):
        """A process with a torn C heap, that waits; and what its C library says of it."""
        library = self.path("libmess.so")
        subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-w", "-o", library,
                        os.path.join(WORKLOADS, "malloc_state.c")], check=True)
        if interpreter.tree:
            shutil.copy(library, os.path.join(interpreter.tree, "tmp"))
            library = "/tmp/libmess.so"
        target = self.start(*interpreter.command(os.path.join(WORKLOADS, "malloc_state.py"), library),
                            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        return target, json.loads(target.stdout.readline())

    def assert_is_mallinfo(self, glibc, own):
        arenas, main = glibc["arenas"], glibc["arenas"][0]
        total = {key: sum(arena[key] for arena in arenas) for key in main if key != "main"}
        free = total["bin_bytes"] + total["fast_bytes"] + total["top_bytes"]
        self.assertTrue(glibc["complete"] and main["main"])
        self.assertEqual({
            "arena": total["system_bytes"], "ordblks": total["bin_chunks"] + len(arenas),
            "smblks": total["fast_chunks"], "fsmblks": total["fast_bytes"], "hblks": glibc["mapped_chunks"],
            "hblkhd": glibc["mapped_bytes"], "uordblks": total["system_bytes"] - free, "fordblks": free,
            "keepcost": main["top_bytes"]}, own)

    def test_glibc_is_what_it_says_and_trims_what_was_said(self):
        """Every field of mallinfo2(), on the C libraries of four Debians; and malloc_trim(0) done."""
        compared = 0
        for interpreter in interpreters():
            if not interpreter.tree and interpreter.python != PYTHON:
                continue  # this machine's C library, as Debian's 3.11 has it
            with self.subTest(interpreter=interpreter.name):
                target, own = self.start_mess(interpreter)
                glibc = self.explain(target.pid)["glibc"]
                self.assert_is_mallinfo(glibc, own)
                self.assertGreater(len(glibc["arenas"]), 1)
                before = resident_bytes(target.pid)
                target.stdin.write("t")
                target.stdin.flush()
                own = json.loads(target.stdout.readline())
                trimmed = before - resident_bytes(target.pid)
                self.assertAlmostEqual(glibc["trimmable_bytes"], trimmed, delta=max(trimmed * 0.03, 64 << 10))
                print(f"{interpreter.name}: malloc_trim(0) predicted {glibc['trimmable_bytes']}, gave {trimmed} bytes",
                      file=sys.stderr)
                self.assert_is_mallinfo(self.explain(target.pid)["glibc"], own)
                compared += 1
        self.assertGreaterEqual(compared, 3)

    def test_layers_are_all_of_the_resident_set(self):
        target = self.start_python(PINNED)
        before = resident_bytes(target.pid)
        found = self.explain(target.pid)
        self.assertEqual(found["rss_bytes"], before)
        self.assertEqual(resident_bytes(target.pid), before, "reading has brought pages in")
        layers = {layer["owner"]: layer["resident_bytes"] for layer in found["layers"]}
        arenas = sum(arena["resident_bytes"] for arena in found["pymalloc"]["arenas"])
        self.assertEqual(sum(size for owner, size in layers.items() if owner.startswith("pymalloc")), arenas)
        for owner, size in layers.items():
            self.assertGreaterEqual(size, 0, owner)

    def test_pinned_arenas_are_seen(self):
        target = self.start_python(PINNED)
        arenas = self.explain(target.pid)["pymalloc"]["arenas"]
        nearly_empty = [arena for arena in arenas if arena["live_blocks"] and arena["live_bytes"] < 20000]
        self.assertGreater(len(nearly_empty), 80)
        table = self.memtrace("explain", "-p", str(target.pid)).stdout
        self.assertRegex(table, r"\d+ arenas of 1\.00 MiB each")
        self.assertIn("below 1 %", table)

    def test_an_unknown_version_is_not_guessed_at(self):
        """What depends on its layout is left out, and said to be; the C heap and files are what they are."""
        python = self.altered_python("python", lambda image: claim_version(image, 99, 0))
        target = self.start_python("blocks = [bytearray(20000) for i in range(2000)]\nlast = bytearray(20000)\n"
                                   "del blocks\nprint('ready', flush=True)\ninput()\n", python=python)
        found = self.explain(target.pid)
        for key in "objects", "pymalloc", "mimalloc":
            self.assertIsNone(found[key])
        causes = {finding["cause"]: finding["bytes"] for finding in found["findings"]}
        self.assertLessEqual(set(causes), {"heap_top_pinned", "heap_fragmented", "file_cache", "peak_then_returned",
                                           "trim_threshold", "huge_pages"})
        self.assertGreater(causes["heap_top_pinned"], 38 * MIB)
        self.assertRegex(found["incomplete"][0], "were not looked at: memtrace does not know the memory layout of CPython 3.99")
        self.assertIn(found["incomplete"][0], self.memtrace("explain", "-p", str(target.pid)).stdout)

    def test_another_allocator_is_no_pymalloc(self):
        target = self.start_python(PINNED, env={**os.environ, "PYTHONMALLOC": "malloc"})
        found = self.explain(target.pid)
        self.assertIsNone(found["pymalloc"])
        self.assertIn("uses another one", self.memtrace("explain", "-p", str(target.pid)).stdout)

    def test_whose_malloc_it_is(self):
        """Of Debian's own program, and of a libpython."""
        folder = os.path.join(ROOT, "build", "allocators")
        if not os.path.exists(os.path.join(folder, ".complete")):
            self.assertFalse(os.environ.get("CI"), "scripts/allocators was not run")
            self.skipTest("needs scripts/allocators")
        libraries = {"glibc": ""}
        for name, file in (("jemalloc", "libjemalloc.so.2"), ("tcmalloc", "libtcmalloc_minimal.so.4"),
                           ("mimalloc", "libmimalloc.so.2")):
            libraries[name], = glob.glob(os.path.join(folder, "usr", "lib", "*", file))
        for interpreter in interpreters():
            if interpreter.tree or interpreter.free_threaded or interpreter.version == "2.7":
                continue
            for name, library in libraries.items():
                with self.subTest(interpreter=interpreter.name, name=name):
                    target = self.start_python(PINNED, python=interpreter.python,
                                               env={**os.environ, "LD_PRELOAD": library})
                    found = self.explain(target.pid)
                    self.assertEqual(found["c_allocator"]["name"], name)
                    self.assertTrue(os.path.samefile(found["c_allocator"]["module"], library) if library else
                                    "libc" in found["c_allocator"]["module"])
                    self.assertIsNone(found["mimalloc"])
                    table = self.memtrace("explain", "-p", str(target.pid)).stdout
                    if library:
                        self.assertIsNone(found["glibc"])
                        self.assertIn(f"malloc is that of {name} (", table)
                    else:
                        self.assertNotIn("malloc is that of", table)

    def test_a_busy_process_is_read_without_harm(self):
        """Whatever it changes meanwhile: no crash, no hang; what contradicts itself is counted, and printed."""
        target = self.start_python("print('ready', flush=True)\nwhile True:\n"
                                   "    keep = [bytes(i % 500) for i in range(200000)]\n    del keep[::2]\n")
        sanitized = os.environ.get("SANITIZED") == "1"
        snapshots = 20 if sanitized else 200  # one takes ten times as long then, and the process goes on meanwhile
        found, whole = 0, 0
        torn_bytes = []
        for _ in range(snapshots):
            explanation = self.explain(target.pid)
            pymalloc, glibc = explanation["pymalloc"], explanation["glibc"]
            if not pymalloc or not glibc:
                continue
            found += 1
            torn_bytes.append(glibc["torn_bytes"])
            whole += pymalloc["torn_pools"] == 0 and glibc["complete"]
        self.assertIsNone(target.poll())
        print(f"{snapshots} snapshots of a busy process: both allocators found in {found}, without a contradiction in "
              f"{whole}; of the C heap at most {max(torn_bytes)} bytes could not be followed", file=sys.stderr)
        self.assertGreaterEqual(found, snapshots * 0.95)
        if not sanitized:  # a pool is not read in time then
            self.assertGreaterEqual(whole, snapshots * 0.25)

    def test_without_privileges(self):
        """A process of one's own needs none."""
        memtrace = self.memtrace_for_all()
        os.chmod(self.write("target.py", PINNED), 0o644)
        target = self.start(*NOBODY, PYTHON, self.path("target.py"), stdout=subprocess.PIPE, text=True)
        target.stdout.readline()
        text = subprocess.run([*NOBODY, memtrace, "explain", "-p", str(target.pid)], capture_output=True, text=True,
                              check=True).stdout
        self.assertRegex(text, r"\d+ arenas of 1\.00 MiB each")
        other = self.start_python(PINNED)
        refused = subprocess.run([*NOBODY, memtrace, "explain", "-p", str(other.pid)], capture_output=True, text=True)
        self.assertEqual(refused.returncode, 125)
        self.assertIn("Permission denied", refused.stderr)

    def test_bad_input(self):
        for args, says in ((("explain",), "name the process"), (("explain", "-p", "0"), "not in range"),
                           (("explain", "-p", str(os.getpid()), "--", "x"), "takes only"),
                           (("explain", "-p", str(os.getpid()), "doctor"), "takes only")):
            done = subprocess.run([MEMTRACE, *args], capture_output=True, text=True)
            self.assertEqual(done.returncode, 2, done.stderr)
            self.assertIn(says, done.stderr)
