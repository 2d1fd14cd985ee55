"""What memtrace doctor finds, with and without each thing that tracing needs."""
import json
import os
import subprocess
import time
import unittest

import jsonschema

from harness import BPF, CAPABILITIES, IN_A_PID_NAMESPACE, MEMTRACE, NOBODY, PYTHON, REFUSING, ROOT, WITHOUT_BPF, \
    WITHOUT_BTF, RootTest, claim_version, load, with_possible_cpus

SCHEMA = os.path.join(ROOT, "docs", "doctor.schema.json")
READY, NOT_READY, USAGE, OURS = 0, 1, 2, 125
PROBES = ["audit", "function__entry", "function__return", "gc__done", "gc__start", "import__find__load__done",
          "import__find__load__start", "line"]
OPTIONS = ["--owners", "--engine line", "--calls", "--imports"]  # whose programs it has loaded
SLEEP = "import time\nprint('ready', flush=True)\ntime.sleep(600)\n"


def not_ok(checks):
    return {check["name"] for check in checks if check["ok"] is not True}


def rename_probes(image, names):
    """Gives these probes to another provider, as if the interpreter had been built without them."""
    for name in names:
        at = image.index(b"python\0" + name + b"\0")
        image[at:at + 6] = b"nobody"


class DoctorTest(RootTest):
    def doctor(self, *args, status=READY, prefix=(), program=MEMTRACE):
        """Its JSON, which is what the schema says; the table has to come to the same end."""
        outputs = []
        for form in ("table", "json"):
            done = subprocess.run([*prefix, program, "doctor", "--format", form, *args], capture_output=True, text=True,
                                  timeout=60)
            self.assertEqual((done.returncode, done.stderr), (status, ""), done.stdout)
            outputs.append(done.stdout)
        self.table, found = outputs[0], json.loads(outputs[1])
        schema = load(SCHEMA)
        jsonschema.Draft202012Validator.check_schema(schema)
        errors = jsonschema.Draft202012Validator(schema).iter_errors(found)
        self.assertEqual([error.message for error in errors], [])
        self.assertEqual(found["ready"], status == READY)
        self.assertEqual("can trace here." in self.table, status == READY)
        for check in found["kernel"] + found["user"]:
            self.assertIn(check["found"], self.table)
            if check["ok"] is False:
                self.assertIn(check["remedy"], self.table)
        return found

    def process(self, python):
        """What it finds of a process that runs this interpreter."""
        return self.doctor("-p", str(self.start_python(SLEEP, python=python).pid))["process"]

    def engine(self, process, name):
        return next(engine for engine in process["engines"] if engine["name"] == name)

    def test_a_host_that_can_trace(self):
        found = self.doctor()
        self.assertIsNone(found["process"])
        self.assertEqual(not_ok(found["user"]) & set(CAPABILITIES), set())
        by_name = {check["name"]: check for check in found["kernel"]}
        self.assertEqual(by_name["release"]["found"], os.uname().release)
        for name in ("BTF", "bpf system call", "BPF programs", "ring buffers"):
            self.assertTrue(by_name[name]["ok"] and by_name[name]["required"], name)
        self.assertTrue(by_name["tracing"]["ok"] and by_name["tracing"]["required"])
        for name in ("page faults", "tracepoints", "cheap RSS hook", "USDT probes", "task storage", "attach cookies",
                     "user registers", *OPTIONS):
            self.assertFalse(by_name[name]["required"], name)

    def test_it_takes_about_a_second(self):
        best = 60.0
        for _ in range(3):
            begun = time.monotonic()
            self.memtrace("doctor")
            best = min(best, time.monotonic() - begun)
        self.assertLess(best, 2.5)

    def test_a_machine_of_many_cpus(self):
        """The verifier must not follow each CPU's share in every way that those before it may have gone."""
        for count in (4, 64, 512):
            found = self.doctor(prefix=with_possible_cpus(count, self.path("possible")))
            self.assertLessEqual({"tracing", *OPTIONS}, {check["name"] for check in found["kernel"] if check["ok"]})

    def test_a_kernel_that_refuses_the_programs(self):
        """It loads programs, and not these: their constants cannot be frozen (BPF_MAP_FREEZE is 22)."""
        prefix = [PYTHON, self.write("refusing.py", REFUSING.format(call=BPF, first=22, last=22, error=1))]
        found = {check["name"]: check for check in self.doctor(status=NOT_READY, prefix=prefix)["kernel"]}
        self.assertIs(found["BPF programs"]["ok"], True)
        for name in ("tracing", *OPTIONS):
            self.assertIs(found[name]["ok"], False, name)
            self.assertRegex(found[name]["found"], "refuses memtrace's BPF programs: Error freezing map.*not permitted")
        self.assertTrue(found["tracing"]["required"])
        self.assertIn("because of: tracing.", self.table)
        # memtrace gives up with the very same words.
        done = subprocess.run([*prefix, MEMTRACE, "run", "--", "/bin/true"], capture_output=True, text=True)
        self.assertEqual((done.returncode, done.stderr),
                         (OURS, f"memtrace: {found['tracing']['found']}; {found['tracing']['remedy']}\n"))

    def test_an_interpreter_with_all_probes(self):
        process = self.process(PYTHON)
        self.assertEqual(process["python"]["module_path"], PYTHON)
        self.assertEqual([probe["name"] for probe in process["probes"]], PROBES)
        for probe in process["probes"]:
            self.assertTrue(probe["usable"] and probe["has_semaphore"] and probe["locations"], probe)
        self.assertIn("line probe is attached too", process["probes"][1]["note"])
        self.assertTrue(self.engine(process, "stack")["usable"])
        self.assertTrue(self.engine(process, "line")["usable"])

    def test_an_interpreter_without_probes(self):
        without = self.path("python3.11")
        subprocess.run(["objcopy", "--remove-section", ".note.stapsdt", PYTHON, without], check=True)
        process = self.process(without)
        self.assertEqual(process["probes"], [])
        self.assertTrue(self.engine(process, "stack")["usable"])
        line = self.engine(process, "line")
        self.assertFalse(line["usable"])
        self.assertIn("no python:line probe", line["reason"])
        self.assertEqual(line["alternative"], "the stack engine gives the same bytes")
        self.assertIn("this build has none", self.table)

    def test_an_interpreter_with_some_probes(self):
        # As Debian builds 3.13 and 3.14.
        gone = ["line", "function__entry", "function__return"]
        python = self.altered_python("python3.11", lambda image: rename_probes(image, [name.encode() for name in gone]))
        process = self.process(python)
        self.assertEqual([probe["name"] for probe in process["probes"]], [name for name in PROBES if name not in gone])
        self.assertIn("no python:line probe", self.engine(process, "line")["reason"])

    def test_an_interpreter_whose_line_probe_crashes_it(self):
        process = self.process(self.altered_python("python3.11", lambda image: claim_version(image, 11, 0)))
        self.assertEqual(process["python"]["version"], "3.11.0")
        refused = {probe["name"]: probe["reason"] for probe in process["probes"] if not probe["usable"]}
        self.assertEqual(list(refused), ["line"])
        self.assertIn("98894", refused["line"])
        self.assertEqual(self.engine(process, "line")["reason"], refused["line"])
        self.assertIn(refused["line"], self.table)

    def test_a_deleted_interpreter(self):
        python = self.altered_python("python3.11", lambda image: None)
        target = self.start_python(SLEEP, python=python)
        os.remove(python)
        process = self.doctor("-p", str(target.pid))["process"]
        self.assertEqual([probe["name"] for probe in process["probes"]], PROBES)

    def test_a_user_without_privileges(self):
        program = self.memtrace_for_all()
        found = self.doctor(status=NOT_READY, prefix=NOBODY, program=program)
        self.assertEqual(not_ok(found["user"]) & set(CAPABILITIES), set(CAPABILITIES))
        # What cannot be tried is not said to be missing.
        programs = next(check for check in found["kernel"] if check["name"] == "BPF programs")
        self.assertIsNone(programs["ok"])
        self.assertIn("sudo", programs["remedy"])
        target = self.start_python(SLEEP)
        found = self.doctor("-p", str(target.pid), status=NOT_READY, prefix=NOBODY, program=program)
        self.assertIn("not ours", found["process"]["obstacle"])
        self.assertIsNone(found["process"]["python"])

    def test_kernels_that_lack_something(self):
        script = self.write("without_bpf.py", WITHOUT_BPF)
        for prefix, section, name in ((WITHOUT_BTF, "kernel", "BTF"), ([PYTHON, script], "kernel", "bpf system call"),
                                      (IN_A_PID_NAMESPACE, "user", "PID namespace")):
            with self.subTest(name=name):
                found = self.doctor(status=NOT_READY, prefix=prefix)
                check = next(check for check in found[section] if check["name"] == name)
                self.assertIs(check["ok"], False)
                self.assertTrue(check["remedy"])
                # memtrace gives up with the very same words.
                done = subprocess.run([*prefix, MEMTRACE, "run", "--", "/bin/true"], capture_output=True, text=True)
                self.assertEqual((done.returncode, done.stderr),
                                 (OURS, f"memtrace: {check['found']}: {check['remedy']}\n"))

    def test_what_is_no_patient(self):
        gone = subprocess.Popen(["/bin/true"])
        gone.wait()
        sleeper = self.start("/bin/sleep", "600")
        for status, words, *args in ((OURS, "there is no process", "-p", str(gone.pid)),
                                     (OURS, "not a Python process", "-p", str(sleeper.pid)),
                                     (OURS, "no memory of its own", "-p", "2"),
                                     (USAGE, "--pid", "-p", "x"),
                                     (USAGE, "--pid", "-p", "1", "-p", "2"),
                                     (USAGE, "-d", "-d", "1"),
                                     (USAGE, "takes only a process", "--", "ls")):
            with self.subTest(args=args):
                done = self.memtrace("doctor", *args, check=False)
                self.assertEqual((done.returncode, done.stdout), (status, ""))
                self.assertIn(words, done.stderr)
                self.assertEqual(len(done.stderr.splitlines()), 1)


if __name__ == "__main__":
    unittest.main()
