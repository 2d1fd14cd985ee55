"""Interpreters in unusual places: deleted or replaced on disk, in containers, within other programs, forked, execed."""
import os
import shutil
import subprocess
import time

from harness import MIB, PYTHON, ROOT, WORKLOADS, RootTest, lines_of

# Waits, grows by 8 MiB at line 6, and waits again. Line 7 gives it back.
GROW = """
import sys
print("ready", flush=True)
sys.stdin.readline()
def f():
    memory = bytearray(8 << 20)
    del memory
f()
print("done", flush=True)
sys.stdin.readline()
"""


class PlacesTest(RootTest):
    def assert_grew(self, process, file="target.py"):
        self.assertIsNone(process["python"]["refusal"])
        row = lines_of(process, file, "f")[6]
        # A forked child also maps anew what it touches of the interpreter's file.
        self.assertAlmostEqual(row["grown_bytes"], 8 * MIB, delta=MIB // 2 if process["opened_by"] == "fork" else MIB // 8)
        self.assertAlmostEqual(lines_of(process, file, "f")[7]["returned_bytes"], 8 * MIB, delta=MIB // 8)
        return row

    def grow(self, target, *options, pid=None):
        """The report of attaching to a process that runs GROW, which goes on afterwards."""
        report = self.trace_step(target, *options, pid=pid)
        self.assertIsNone(target.poll())
        return report

    def test_deleted_on_disk(self):
        python = shutil.copy(PYTHON, self.path("python-of-old"))
        target = self.start_python(GROW, python=python)
        os.remove(python)
        self.assert_grew(self.grow(target)["processes"][0])

    def test_replaced_on_disk_by_another_version(self):
        """As an upgrade does: what runs is what was there before."""
        python = shutil.copy(PYTHON, self.path("python3.11"))
        target = self.start_python(GROW, python=python)
        with open(self.path("newer"), "wb") as newer:
            newer.write(b"#!/bin/sh\n")
        os.rename(self.path("newer"), python)
        self.assert_grew(self.grow(target)["processes"][0])

    def test_a_name_that_says_nothing(self):
        target = self.start_python(GROW, python=shutil.copy(PYTHON, self.path("worker")))
        self.assert_grew(self.grow(target)["processes"][0])

    def test_in_a_container(self):
        """Another root, another C library, and PID 1 to itself."""
        tree = os.path.join(ROOT, "build", "pythons", "3.13")
        if not os.path.exists(tree):
            self.assertFalse(os.environ.get("CI"), "scripts/pythons was not run")
            self.skipTest("needs scripts/pythons 3.13")
        name = f"in-a-container-{os.getpid()}.py"
        shutil.copy(self.write("target.py", GROW), os.path.join(tree, "tmp", name))
        self.addCleanup(os.remove, os.path.join(tree, "tmp", name))
        outside = self.start("unshare", "--pid", "--fork", "--mount", "--propagation", "unchanged", "--kill-child", "chroot",
                             tree, "/usr/bin/python3.13", "-B", "/tmp/" + name, stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE, text=True)
        self.assertEqual(outside.stdout.readline(), "ready\n")
        with open(f"/proc/{outside.pid}/task/{outside.pid}/children") as children:
            pid = int(children.read())
        with open(f"/proc/{pid}/status") as status:
            self.assertIn(f"NSpid:\t{pid}\t1\n", status.read())
        report = self.grow(outside, pid=pid)
        row = self.assert_grew(report["processes"][0], name)
        self.assertEqual(row["file"], "/tmp/" + name)
        self.assertEqual(row["source"].strip(), "memory = bytearray(8 << 20)")

    def embedding_program(self):
        program = self.path("host")
        subprocess.run(["cc", "-O1", "-o", program, os.path.join(WORKLOADS, "embed.c"), "-ldl"], check=True)
        return program

    def test_within_another_program_from_its_start(self):
        file = self.write("target.py", GROW)
        tracer = self.start(*self.memtrace_run(), "--", self.embedding_program(), file, stdin=subprocess.PIPE,
                            stdout=subprocess.PIPE, text=True)
        for word in ("ready\n", "ready\n", "done\n"):  # the program's, and then the file's
            self.assertEqual(tracer.stdout.readline(), word)
            time.sleep(0.3)  # the kernel tells when such an interpreter is mapped; to look at it takes a moment
            tracer.stdin.write("\n")
            tracer.stdin.flush()
        self.assertEqual(tracer.wait(timeout=60), 0)
        report = self.read_report()
        self.assert_conserved(report)
        self.assert_grew(report["processes"][0])

    def test_within_another_program_attached_to(self):
        target = self.start(self.embedding_program(), self.write("target.py", GROW), stdin=subprocess.PIPE,
                            stdout=subprocess.PIPE, text=True)
        self.assertEqual(target.stdout.readline(), "ready\n")
        refused = self.memtrace("-p", str(target.pid), "-d", "1", check=False)
        self.assertEqual(refused.returncode, 125)
        self.assertIn("no CPython interpreter is mapped in it", refused.stderr)
        target.stdin.write("\n")
        target.stdin.flush()
        self.assertEqual(target.stdout.readline(), "ready\n")
        self.assert_grew(self.grow(target)["processes"][0])

    def test_a_tree_of_forks_and_execs(self):
        """Of three interpreters: each process has its own lines."""
        others = [path for path in (os.path.join(ROOT, "build", "pythons", name, "bin", "python")
                                    for name in ("pyenv-3.8", "pyenv-2.7")) if os.path.exists(path)]
        file = self.write("grow.py", "import os, sys, subprocess, time\ntime.sleep(0.3)\n\ndef f(n):\n    pass\n    memory = bytearray(8 << 20)\n"
                          "    del memory\n\n\nif os.fork() == 0:\n    f(1)\n    os._exit(0)\nos.wait()\nf(2)\n"
                          "if sys.argv[1:]:\n    subprocess.check_call([sys.argv[1], __file__] + sys.argv[2:])\n")
        report = self.run_report(PYTHON, file, *others, PYTHON)
        self.assert_conserved(report)
        grown = [process for process in report["processes"] if lines_of(process, "grow.py", "f")]
        self.assertEqual(len(grown), 2 * (len(others) + 2))
        for process in grown:
            self.assert_grew(process, "grow.py")
        self.assertEqual(len({process["python"]["version"] for process in grown}), 1 + len(others))
