"""Every CPython there is on this machine: the lines are right in all."""
import json
import os
import subprocess
import sys

from harness import MIB, PYTHON, ROOT, WORKLOADS, RootTest, interpreters, lines_of, resident_bytes

DEEP_THREADS = os.path.join(WORKLOADS, "deep_threads.py")
WALK_THREADS = os.environ.get("WALK_THREADS", os.path.join(ROOT, "build", "tests", "walk_threads"))

STEPWISE = os.path.join(WORKLOADS, "stepwise_deepcopy.py")
BUSY_THREADS = os.path.join(WORKLOADS, "busy_threads.py")
MANY_THREADS = os.path.join(WORKLOADS, "many_threads.py")
SUBINTERPRETERS = os.path.join(WORKLOADS, "subinterpreters.py")
BUSY_ROUNDS, READ, CLOSE = 200, 5, 6  # its rounds, and lines of its threads
MAKE, COPY, DROP, CALL = 14, 16, 18, 24  # its lines
KIB = 1024


def tolerated(truth):
    return max(abs(truth) // 100, 256 * KIB)


class InterpretersTest(RootTest):
    def measure(self, interpreter):
        """How RSS changed at each of the four lines: by memtrace, and by the kernel's page tables before and after. And what
        the kernel's own threads added, which is no line's."""
        target = self.start(*interpreter.command(STEPWISE), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        target.stdout.readline()
        tracer = self.attach("-p", str(target.pid))
        resident = []
        for _ in range(5):
            target.stdin.write("\n")
            target.stdin.flush()
            self.assertEqual(target.stdout.readline(), "step\n")
            resident.append(resident_bytes(target.pid))
        report = self.finish(tracer)
        self.assert_conserved(report)
        process = report["processes"][0]
        self.assertIsNone(process["python"]["refusal"])
        self.assertTrue(process["python"]["version"].startswith(interpreter.version), process["python"])
        self.assertEqual(process["python"]["free_threaded"], interpreter.free_threaded)
        rows = lines_of(process, STEPWISE, "function")
        ours = [rows[line]["increment_bytes"] if line in rows else 0 for line in (MAKE, COPY, DROP)]
        # What the function returned is dropped by its caller's line.
        ours.append(-sum(row["bytes"] for row in process["returns"]
                         if row["line"] == CALL and row["function"] == "<module>"))
        # 3.15 asks for huge pages, with which the kernel fills holes at its leisure: the page tables have those too.
        others = sum(row["grown_bytes"] for row in process["owners"] if row["owner"] == "[other process]")
        return ours, [after - before for before, after in zip(resident, resident[1:])], others

    def test_deepcopy_on_every_interpreter(self):
        print(f"\n{'KiB, memtrace / page tables':<28}{'list':>16}{'deepcopy':>16}{'del x':>16}{'caller':>16}",
              file=sys.stderr)
        for interpreter in interpreters():
            with self.subTest(interpreter=interpreter.name):
                ours, truth, others = self.measure(interpreter)
                if interpreter.free_threaded and truth[2] > -MIB:  # mimalloc has kept its segment for a while: seldom
                    ours, truth, others = self.measure(interpreter)
                cells = "".join(f"{f'{a // KIB} / {b // KIB}':>16}" for a, b in zip(ours, truth))
                print(f"{interpreter.name:<28}{cells}", file=sys.stderr)
                for name, a, b in zip(("list", "deepcopy", "del x", "caller"), ours, truth):
                    self.assertLessEqual(abs(a - b), tolerated(b) + others, name)
                self.assertGreater(ours[0], 30 << 20)
                # pymalloc leaves this to libc, which maps it; mimalloc gives back a segment.
                self.assertAlmostEqual(ours[2], -8003584, delta=(512 if interpreter.free_threaded else 64) * KIB)

    def test_frames_are_those_that_the_interpreter_sees(self):
        """By the frame walker that runs in the kernel, compiled for this machine (tests/walker)."""
        compared = 0
        for interpreter in interpreters():
            with self.subTest(interpreter=interpreter.name):
                target = self.start(*interpreter.command(DEEP_THREADS, "40"), stdin=subprocess.PIPE,
                                    stdout=subprocess.PIPE, text=True)
                stacks = json.loads(target.stdout.readline())
                self.assertGreaterEqual(len(stacks), 12)
                walked = subprocess.run([WALK_THREADS, str(target.pid), *stacks], capture_output=True, text=True)
                self.assertEqual(walked.returncode, 0, walked.stderr)
                self.assertEqual([json.loads(line) for line in walked.stdout.splitlines()], list(stacks.values()))
                compared += sum(len(stack) for stack in stacks.values())
                target.communicate("\n")
        print(f"\n{compared} frames of {len(interpreters())} interpreters compared, 0 wrong", file=sys.stderr)
        self.assertGreater(compared, 600 * len(interpreters()))

    def test_busy_threads_are_not_mistaken_for_one_another(self):
        """Not even while another thread holds the GIL."""
        lines = exact = 0
        for interpreter in interpreters():
            if interpreter.version == "2.7":
                continue  # it has no readinto for a mapping
            with self.subTest(interpreter=interpreter.name):
                target = self.start(*interpreter.command(BUSY_THREADS), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                    text=True)
                self.assertEqual(target.stdout.readline(), "ready\n")
                report = self.trace_step(target)
                process = report["processes"][0]
                unknown = next((row for row in process["owners"] if row["owner"] == "[line unknown]"), None)
                if unknown:
                    self.assertLess(unknown["grown_bytes"] + unknown["returned_bytes"],
                                    (process["rss"]["grown_bytes"] + process["rss"]["returned_bytes"]) / 1000)
                for number in range(8):
                    mapped, file = BUSY_ROUNDS * (number + 1) << 16, f"thread-{number}.py"
                    rows = lines_of(process, file, "work")
                    given = [row for row in process["returns"]
                             if row["how"] == "munmap" and row["file"] == file and row["line"] == CLOSE]
                    self.assertEqual([row["count"] for row in given], [BUSY_ROUNDS], file)
                    # The kernel counts by CPU, in lots of 32 pages: a lot in some 10,000 goes to the other CPU's thread
                    # (bpf/lib/rss.h). A wrong line would be a whole mapping, and as many as there are.
                    for bytes_seen in (rows[READ]["grown_bytes"], given[0]["bytes"]):
                        exact += bytes_seen == mapped
                        self.assertAlmostEqual(bytes_seen, mapped, delta=256 * KIB, msg=file)
                lines += 16
        print(f"\n{lines * BUSY_ROUNDS} fills and unmappings without the GIL, all at their lines; {exact} of {lines} lines "
              "exact to the byte", file=sys.stderr)
        self.assertGreater(exact, lines * 0.9)

    def test_a_thread_among_many_is_found_at_once(self):
        target = self.start(PYTHON, "-B", MANY_THREADS, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.assertEqual(target.stdout.readline(), "ready\n")
        report = self.trace_step(target)
        rows = lines_of(report["processes"][0], MANY_THREADS, "work")
        self.assertAlmostEqual(rows[16]["grown_bytes"], 50 * 256 * KIB, delta=256 * KIB)

    def test_code_in_subinterpreters_has_its_own_lines(self):
        """While it runs, the frame that called for it is still its thread's in the main interpreter."""
        size = 8 << 20
        for interpreter in interpreters():
            if interpreter.version in ("2.7", "3.6", "3.7"):
                continue  # no module to make one with
            with self.subTest(interpreter=interpreter.name):
                report = self.run_report(*interpreter.command(SUBINTERPRETERS))
                self.assert_conserved(report)
                process = report["processes"][-1]
                file = "<script>" if "<script>" in {row["file"] for row in process["lines"]} else "<string>"  # from 3.14 on
                rows = lines_of(process, file, "<module>")
                for line in (5, 9, 104):
                    self.assertAlmostEqual(rows[line]["grown_bytes"], size, delta=256 * KIB, msg=line)
                given = [(row["bytes"], row["count"]) for row in process["returns"]
                         if row["file"] == file and row["line"] == 105 and row["how"] == "munmap"]
                self.assertEqual(given, [(size, 1)])

    def test_lines_under_the_jit_are_called_approximate(self):
        tried = 0
        for interpreter in interpreters():
            if interpreter.name not in ("Debian 3.14", "Debian 3.15"):
                continue  # only these have it built in
            for switch, word in (("1", True), ("0", False)):
                with self.subTest(interpreter=interpreter.name, switch=switch):
                    program = self.write("jit.py", "import time\nx = bytearray(4 << 20)\ntime.sleep(1)\n")
                    report = self.run_report("env", "PYTHON_JIT=" + switch, *interpreter.command(program))
                    self.assertEqual(report["processes"][-1]["python"]["jit"], word)
            tried += 1
        if not tried:
            self.skipTest("needs scripts/pythons 3.14")
