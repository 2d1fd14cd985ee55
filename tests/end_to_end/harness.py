"""What the root tests share: running memtrace on real processes, and reading its reports."""
import atexit
import contextlib
import fcntl
import json
import os
import pty
import re
import shutil
import signal
import struct
import subprocess
import tempfile
import termios
import time
import unittest
import unittest.mock

import jsonschema

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
WORKLOADS = os.path.join(ROOT, "tests", "workloads")
DEEPCOPY = os.path.join(ROOT, "scripts", "workloads", "deepcopy.py")
SCHEMA = os.path.join(ROOT, "docs", "report.schema.json")
MEMTRACE = os.environ.get("MEMTRACE", os.path.join(ROOT, "build", "memtrace"))
PYTHON = "/usr/bin/python3.11"
RELEASE = tuple(int(number) for number in re.findall(r"\d+", os.uname().release)[:2])
MIB = 1 << 20
# "Below 0.1 % of the peak, or 128 KiB": how far smaps and statm themselves may be apart.
SLACK = 128 << 10
# The tracepoint of --rss-source classic.
CLASSIC = "kmem:rss_stat"
# A cause with fewer bytes is no finding.
LEAST_FINDING = 64 << 10
# Runs the rest of its arguments with a system call failing where its first argument is at least `first` and at most `last`.
REFUSING = """
import ctypes, os, struct, sys
CALL, FIRST, LAST, ERROR = {call}, {first}, {last}, {error}
filter = b"".join(struct.pack("HBBI", *row) for row in [
    (0x20, 0, 0, 0),                      # load the system call's number
    (0x15, 0, 4, CALL),                   # is it this one?
    (0x20, 0, 0, 16),                     # load its first argument: of bpf, the command
    (0x35, 0, 2, FIRST),                  # is it one of these?
    (0x25, 1, 0, LAST),
    (0x06, 0, 0, 0x00050000 | ERROR),     # then fail
    (0x06, 0, 0, 0x7fff0000)])            # else allow
buffer = ctypes.create_string_buffer(filter)
program = struct.pack("HxxxxxxQ", 7, ctypes.addressof(buffer))
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0    # PR_SET_NO_NEW_PRIVS
assert libc.prctl(22, 2, ctypes.create_string_buffer(program)) == 0  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER
os.execvp(sys.argv[1], sys.argv[1:])
"""
BPF, PERF_EVENT_OPEN = (280, 241) if os.uname().machine == "aarch64" else (321, 298)
# As on a kernel without CONFIG_BPF_SYSCALL.
WITHOUT_BPF = REFUSING.format(call=BPF, first=0, last=1000, error=38)
# As a container's seccomp profile has it, and as Debian's kernels do to all but root.
WITHOUT_PERF_EVENTS = REFUSING.format(call=PERF_EVENT_OPEN, first=0, last=0xffffffff, error=13)
# Runs the rest of its arguments where the kernel's BTF is hidden. Privately: nobody else's /sys changes. (/sys is a mount
# point in a chroot too, where / is not.)
WITHOUT_BTF = ["unshare", "--mount", "--propagation", "unchanged", "sh", "-c",
               'mount --make-rprivate /sys && mount -t tmpfs none /sys/kernel/btf && exec "$@"', "sh"]
# Runs the rest of its arguments in a PID namespace, as in a container. (unshare's --mount-proc wants / to be a mount point,
# which a chroot's is not.)
IN_A_PID_NAMESPACE = ["unshare", "--pid", "--fork", "--mount", "--propagation", "unchanged", "sh", "-c",
                      'mount --make-rprivate /proc && mount -t proc proc /proc && exec "$@"', "sh"]
# Runs the rest of its arguments as a user without any privilege.
NOBODY = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]
# What README says that memtrace needs of root's rights.
CAPABILITIES = ["cap_bpf", "cap_perfmon", "cap_sys_ptrace", "cap_checkpoint_restore", "cap_dac_read_search"]


def nobody_with(capabilities):
    """Runs the rest of its arguments as nobody with exactly these."""
    names = ",".join(["-all", *("+" + name.removeprefix("cap_") for name in capabilities)])
    return [*NOBODY, f"--inh-caps={names}", f"--ambient-caps={names}", f"--bounding-set={names}", "--no-new-privs"]


def with_possible_cpus(count, file):
    """Runs the rest of its arguments where the kernel says that so many CPUs are possible. Privately, as WITHOUT_BTF."""
    with open(file, "w") as possible:
        possible.write(f"0-{count - 1}\n")
    return ["unshare", "--mount", "--propagation", "unchanged", "sh", "-c", "mount --make-rprivate /sys && "
            f'mount --bind {file} /sys/devices/system/cpu/possible && exec "$@"', "sh"]


class Interpreter:
    """A Python of this machine or of build/pythons (scripts/pythons)."""

    def __init__(self, name, python, tree=""):
        self.name = name
        self.python = python
        self.tree = tree  # a root of its own
        self.version = name.split()[-1].rstrip("t")
        self.free_threaded = name.endswith("t")

    def command(self, file, *args):
        """How to run a file of ours."""
        if not self.tree:
            return [self.python, "-B", file, *args]
        inside = os.path.join("/tmp", str(os.getpid()), os.path.basename(file))  # another test may have one of this name
        folder = os.path.dirname(self.tree + inside)
        if not os.path.exists(folder):
            os.mkdir(folder)
            atexit.register(shutil.rmtree, folder)
        shutil.copy(file, self.tree + inside)
        return ["chroot", self.tree, self.python, "-B", inside, *args]


def interpreters():
    """All there are. Those of Debian's stable suites must be there in CI."""
    found = [Interpreter("Debian 3.11", PYTHON)]
    folder = os.path.join(ROOT, "build", "pythons")
    for name in sorted(os.listdir(folder) if os.path.isdir(folder) else [],
                       key=lambda name: [int(number) for number in re.findall(r"\d+", name)]):
        tree = os.path.join(folder, name)
        if name.startswith("pyenv-"):
            found.append(Interpreter(name.replace("-", " "), os.path.join(tree, "bin", "python")))
        elif not os.path.exists(os.path.join(tree, ".complete")):
            continue
        elif name.endswith("t"):
            found.append(Interpreter("built " + name, os.path.join(tree, "bin", "python" + name)))
        else:
            found.append(Interpreter("Debian " + name, "/usr/bin/python" + name, tree))
    if os.environ.get("CI"):
        missing = {"Debian 2.7", "Debian 3.9", "Debian 3.13", "built 3.13t"} - {interpreter.name for interpreter in found}
        assert not missing, f"scripts/pythons was not run: {missing}"
    return found


def why_not_here():
    """Why BPF tests cannot run, or None."""
    if os.geteuid() != 0:
        return "needs root"
    if not os.path.exists("/sys/kernel/btf/vmlinux"):
        return "this kernel has no BTF"
    probe = subprocess.run([MEMTRACE, "run", "-q", "-o", "/dev/null", "--", "/bin/true"], capture_output=True, text=True)
    return None if probe.returncode == 0 else "memtrace does not run here: " + probe.stderr.strip()


class RootTest(unittest.TestCase):
    """Skips where the machine forbids BPF; in CI that is a failure."""

    @classmethod
    def setUpClass(cls):
        if os.environ.get("CI"):
            return  # every test must run, and fails where it cannot
        reason = why_not_here()
        if reason:
            raise unittest.SkipTest(reason)

    def setUp(self):
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.scratch = scratch.name

    def path(self, name):
        return os.path.join(self.scratch, name)

    def write(self, name, text):
        with open(self.path(name), "w") as file:
            file.write(text)
        return self.path(name)

    def start(self, *command, **options):
        """A process that is killed, by its pid, when the test ends."""
        process = subprocess.Popen(command, **options)
        self.addCleanup(end, process)
        return process

    def start_python(self, source, *args, **options):
        """A Python program; waits until it has printed a line."""
        process = self.start(options.pop("python", PYTHON), self.write("target.py", source), *args,
                             stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True, **options)
        process.stdout.readline()
        return process

    def altered_python(self, name, alter):
        """A copy of Debian's python3.11, under this name, whose bytes were altered by alter(bytearray)."""
        with open(PYTHON, "rb") as file:
            image = bytearray(file.read())
        alter(image)
        with open(self.path(name), "wb") as file:
            file.write(image)
        os.chmod(self.path(name), 0o755)
        return self.path(name)

    def python_3_9(self):
        """The interpreter of Debian 11. It runs on this machine's own, newer C library; only its modules are its own."""
        tree = os.path.join(ROOT, "build", "pythons", "3.9", "usr")
        if not os.path.exists(tree):
            self.assertFalse(os.environ.get("CI"), "scripts/pythons was not run")
            self.skipTest("needs scripts/pythons 3.9")
        home = unittest.mock.patch.dict(os.environ, PYTHONHOME=tree)
        home.start()
        self.addCleanup(home.stop)
        return os.path.join(tree, "bin", "python3.9")

    def memtrace_for_all(self):
        """A copy of memtrace that any user may run."""
        os.chmod(self.scratch, 0o755)
        return shutil.copy(MEMTRACE, self.path("memtrace"))

    def memtrace(self, *args, check=True, **options):
        """Runs memtrace; its output and exit status."""
        done = subprocess.run([MEMTRACE, *args], capture_output=True, text=True, timeout=240, **options)
        if check:
            self.assertEqual(done.returncode, 0, done.stderr)
        return done

    def explain(self, pid, *options):
        """The JSON report of `memtrace explain`."""
        found = json.loads(self.memtrace("explain", "-p", str(pid), "--format", "json", *options).stdout)
        with open(os.path.join(ROOT, "docs", "explain.schema.json")) as file:
            jsonschema.validate(found, json.load(file))
        self.assertEqual(sum(layer["resident_bytes"] for layer in found["layers"]), found["rss_bytes"])
        return found

    def memtrace_run(self, *options):
        """The command line up to the command to trace; read_report() reads what it reports."""
        return [MEMTRACE, "run", "-q", "--format", "json", "-o", self.path("report.json"), *options]

    def read_report(self):
        return load(self.path("report.json"))

    def run_report(self, *command, options=(), status=0):
        """The JSON report of `memtrace run`."""
        done = self.memtrace(*self.memtrace_run(*options)[1:], "--", *command, check=False)
        self.assertEqual(done.returncode, status, done.stderr)
        return self.read_report()

    def memtrace_on_terminal(self, *args, typed=(), status=0, columns=0):
        """What memtrace and its command print on a terminal of their own. `typed`: (what to wait for, what to type)."""
        pid, terminal = pty.fork()
        if pid == 0:
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
            os.execv(MEMTRACE, [MEMTRACE, *args])
        text, typed = "", list(typed)
        with contextlib.suppress(OSError):  # the last writer has closed it
            while piece := os.read(terminal, 4096):
                text += piece.decode()
                if typed and typed[0][0] in text:
                    os.write(terminal, typed.pop(0)[1].encode())
        os.close(terminal)
        self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), status, text)
        return re.sub(r"\x1b\[K", "", text)

    def attach(self, *args):
        """memtrace, attached and tracing."""
        tracer = self.start(MEMTRACE, "-q", "--format", "json", "-o", self.path("report.json"), *args,
                            stderr=subprocess.PIPE, text=True)
        wait_until(lambda: tracer.poll() is not None or is_attached(tracer.pid))
        return tracer

    def finish(self, tracer, number=signal.SIGINT):
        """Ends an attached memtrace; its report."""
        if number and tracer.poll() is None:
            tracer.send_signal(number)
        _, errors = tracer.communicate(timeout=60)
        self.assertEqual(tracer.returncode, 0, errors)
        return self.read_report()

    def trace_step(self, target, *options, pid=None):
        """The report of attaching to a process that waits for a line and prints "done" when it has done its work."""
        tracer = self.attach("-p", str(pid or target.pid), *options)
        target.stdin.write("\n")
        target.stdin.flush()
        self.assertEqual(target.stdout.readline(), "done\n")
        report = self.finish(tracer)
        self.assert_conserved(report)
        return report

    def assert_conserved(self, report):
        """The ledger's law, for every process and kind of page. Nothing is lost, but for what a kernel keeps to itself: see
        test_bpf_calls_that_are_preempted."""
        lost = 0
        if report["tracer"]["rss_source"] == CLASSIC and kernel_is_preemptible():
            lost = report["failures"].get("changes_passed_over", 0)
        self.assertEqual(report["lost_events"], lost, report["failures"])
        self.assertTrue(report["processes"])
        for process in report["processes"]:
            rss = process["rss"]
            parts = process["members"].values()
            for balance in [rss, *parts]:
                self.assertEqual(balance["grown_bytes"] - balance["returned_bytes"] + balance["unexplained_bytes"],
                                 balance["end_bytes"] - balance["start_bytes"])
                if not lost:
                    self.assertLessEqual(abs(balance["unexplained_bytes"]), max(rss["peak_bytes"] // 1000, SLACK), process)
            for key in ("start_bytes", "end_bytes", "grown_bytes", "returned_bytes", "unexplained_bytes"):
                self.assertEqual(rss[key], sum(part[key] for part in parts))
            owners = process["owners"]
            self.assertEqual(sum(owner["grown_bytes"] for owner in owners), rss["grown_bytes"])
            self.assertEqual(sum(owner["returned_bytes"] for owner in owners), rss["returned_bytes"])
            self.assertEqual(sum(row["bytes"] for row in process["returns"]), rss["returned_bytes"])
            if rss["returned_bytes"] >= LEAST_FINDING:
                last = process["findings"][-1]
                self.assertEqual((last["cause"], last["bytes"]), ("returned", rss["returned_bytes"]))


def kernel_is_preemptible():
    """Whether a thread may lose its CPU inside of a system call. Where nothing says so, not."""
    try:
        with open("/sys/kernel/debug/sched/preempt") as file:
            return "(full)" in (words := file.read()) or "(lazy)" in words
    except OSError:
        return False


def claim_version(image, minor, micro):
    """Makes a python3.11's Py_Version, which is 0x030b02f0 for 3.11.2 final, say another one."""
    at = next(i for i in range(0, len(image) - 8, 8) if image[i + 1:i + 8] == b"\x02\x0b\x03\0\0\0\0")
    image[at + 1], image[at + 2] = micro, minor


def claim_member_offset(image, name, offset):
    """Makes Debian's python3.11 say that this member of its code objects is elsewhere."""
    text = image.index(b"\0" + name.encode() + b"\0") + 1
    # It is not position independent: what is only read is mapped at 0x400000 as it lies in the file.
    member = image.index(struct.pack("<Qi", 0x400000 + text, 6))  # PyMemberDef: name, type (T_OBJECT)
    image[member + 16:member + 24] = struct.pack("<Q", offset)


def load(file):
    with open(file) as opened:
        return json.load(opened)


def end(process):
    if process.poll() is None:
        process.kill()
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream:
            with contextlib.suppress(OSError):
                stream.close()
    process.wait()


def wait_until(condition, seconds=30):
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("waited for too long")
        time.sleep(0.01)


def is_attached(pid):
    """Whether this memtrace's hooks are on: the last one is the iterator of tasks."""
    with contextlib.suppress(OSError):
        for fd in os.listdir(f"/proc/{pid}/fdinfo"):
            with contextlib.suppress(OSError), open(f"/proc/{pid}/fdinfo/{fd}") as info:
                if "link_type:\titer" in info.read():
                    time.sleep(0.3)  # opening the accounts follows at once
                    return True
    return False


def lines_of(process, file, function):
    """line number -> row, of one function."""
    return {row["line"]: row for row in process["lines"]
            if os.path.basename(row["file"]) == os.path.basename(file) and row["function"] == function}


def python_process(report, file):
    """The process that ran this script."""
    return next(p for p in report["processes"] if p["python"] and any(file in word for word in p["cmdline"]))


def resident_bytes(pid, figure="Rss"):
    """Exact: smaps_rollup walks the page tables."""
    with open(f"/proc/{pid}/smaps_rollup") as file:
        return next(int(line.split()[1]) << 10 for line in file if line.startswith(figure + ":"))
