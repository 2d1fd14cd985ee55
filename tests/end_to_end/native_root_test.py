# Growth that no Python line explains is charged to native functions, by module and symbol.
import os
import subprocess
import time
import unittest

from harness import PYTHON, RootTest, WORKLOADS

MIB = 1 << 20
# The first pages at a place are counted before it has a name.
UNNAMED = 64 << 10
THREAD = os.path.join(WORKLOADS, "native_thread.py")


class NativeTest(RootTest):
    def library(self, *options):
        path = self.path("libfill.so")
        subprocess.run(["cc", "-O2", "-fno-optimize-sibling-calls", "-shared", "-fPIC", *options, "-o", path,
                        os.path.join(WORKLOADS, "native_thread.c"), "-lpthread"], check=True)
        return path

    def start_thread(self, library):
        target = self.start(PYTHON, THREAD, library, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.obey(target, "?")
        return target

    def obey(self, target, letters):
        for letter in letters.encode():
            target.stdin.write(bytes([letter]))
            target.stdin.flush()
            self.assertEqual(target.stdout.read(1), bytes([letter]))

    def assert_near(self, bytes_found, bytes_made, places=1):
        """Exact, but for what comes before a place has its name."""
        self.assertLessEqual(bytes_found, bytes_made)
        self.assertGreaterEqual(bytes_found, bytes_made - places * UNNAMED)

    def native_rows(self, report):
        process, = report["processes"]
        unnamed, = (row for row in process["owners"] if row["owner"] == "[no python frame]")
        self.assertLessEqual(sum(row["grown_bytes"] for row in process["native"]), unnamed["grown_bytes"])
        return process["native"]

    def test_two_callers_of_memset_are_told_apart(self):
        """They call it from one depth of the stack: only the return address differs."""
        target = self.start_thread(self.library())
        tracer = self.attach("-p", str(target.pid))
        self.obey(target, "l")
        time.sleep(1)  # until the answer has come
        self.obey(target, "r")
        time.sleep(1)
        self.obey(target, "lrr" * 10)
        report = self.finish(tracer)
        self.assert_conserved(report)
        rows = {(row["module"], row["function"], row["by"]): row for row in self.native_rows(report)}
        library = self.path("libfill.so")
        self.assert_near(rows[library, "fill_left", "libc.so.6"]["grown_bytes"], 11 * 4 * MIB)
        self.assert_near(rows[library, "fill_right", "libc.so.6"]["grown_bytes"], 21 * 2 * MIB)
        self.assertEqual(len(rows), 2, rows)

    def test_own_instructions_malloc_and_munmap(self):
        target = self.start_thread(self.library())
        tracer = self.attach("-p", str(target.pid))
        for letters in ("l", "iiii", "h", "hhhh", "u"):
            self.obey(target, letters)
            time.sleep(0.5)
        report = self.finish(tracer)
        self.assert_conserved(report)
        rows = self.native_rows(report)
        grown = {name: sum(row["grown_bytes"] for row in rows if row["function"] == name)
                 for name in ("fill_itself", "fill_heap")}
        self.assert_near(grown["fill_itself"], 12 * MIB)
        # 200 blocks of 100,000 bytes in a thread's arena: malloc's own pages and memset's.
        self.assertGreaterEqual(grown["fill_heap"], 200 * 100_000 - 4 * UNNAMED)
        self.assertIn("malloc", [row["by"] for row in rows])
        self.assertEqual([row["by"] for row in rows if row["function"] == "fill_itself"], [None])
        returned, = (row for row in report["processes"][0]["returns"] if row["how"] == "munmap")
        self.assertEqual([returned["bytes"], returned["function"], returned["owner"]],
                         [4 * MIB, "let_go", "[no python frame]"])

    def test_without_symbols(self):
        """The functions are told apart all the same, by the addresses that they begin at."""
        target = self.start_thread(self.library("-fvisibility=hidden", "-s"))
        tracer = self.attach("-p", str(target.pid))
        self.obey(target, "l")
        time.sleep(1)
        self.obey(target, "lrrr")
        rows = self.native_rows(self.finish(tracer))
        self.assertEqual([row["module"] for row in rows], 2 * [self.path("libfill.so")])
        for row, made in zip(rows, (8 * MIB, 6 * MIB)):
            self.assertRegex(row["function"], "^function at 0x[0-9a-f]+$")
            self.assert_near(row["grown_bytes"], made)

    def test_the_table_names_them(self):
        target = self.start_thread(self.library())
        tracer = self.start(os.environ["MEMTRACE"], "-p", str(target.pid), "-d", "3", stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True)
        time.sleep(2)
        self.obey(target, "i")
        text, errors = tracer.communicate(timeout=60)
        self.assertEqual(tracer.returncode, 0, errors)
        self.assertRegex(text, r"\[no python frame\], by native function\n.*\n +2\.9\d MiB +-?0\.00 MiB   libfill\.so  fill_itself\n")

    def test_a_library_that_is_forged(self):
        """Its symbols and call frames are garbage: what they say is nothing, and everything else goes on."""
        library = self.library()
        sections = subprocess.run(["readelf", "-SW", library], check=True, capture_output=True, text=True).stdout
        target = self.start_thread(library)
        with open(library, "rb") as file:
            image = bytearray(file.read())
        for line in sections.splitlines():
            words = line.replace("[ ", "[").split()
            if len(words) > 5 and words[1] in (".symtab", ".strtab", ".eh_frame", ".eh_frame_hdr"):
                start, size = int(words[4], 16), int(words[5], 16)
                image[start:start + size] = os.urandom(size)
        with open(library, "r+b") as file:  # in place: it is mapped
            file.write(image)
        tracer = self.attach("-p", str(target.pid))
        self.obey(target, "l")
        time.sleep(1)
        self.obey(target, "lll")
        report = self.finish(tracer)
        self.assert_conserved(report)
        unnamed, = (row for row in report["processes"][0]["owners"] if row["owner"] == "[no python frame]")
        self.assertGreaterEqual(unnamed["grown_bytes"], 16 * MIB)

    def test_a_start_of_python_is_hardly_named(self):
        """What comes before the first line is not, and of the rest little is large enough: short programs pay nothing."""
        rows = self.native_rows(self.run_report(PYTHON, "-c", "import time; time.sleep(1)"))
        self.assertLessEqual(len(rows), 3, rows)


if __name__ == "__main__":
    unittest.main()
