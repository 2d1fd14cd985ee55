"""What of root's rights each process of memtrace's has, in each phase: the table of docs/security.md."""
import os
import subprocess
import time

from harness import MEMTRACE, PYTHON, RootTest, is_attached, wait_until

NAMES = {0: "chown", 1: "dac_override", 2: "dac_read_search", 3: "fowner", 5: "kill", 6: "setgid", 7: "setuid", 19: "sys_ptrace",
         21: "sys_admin", 24: "sys_resource", 38: "perfmon", 39: "bpf", 40: "checkpoint_restore"}
FIVE = {"bpf", "perfmon", "sys_ptrace", "checkpoint_restore", "dac_read_search"}
READS = {"sys_ptrace", "setuid", "setgid", "dac_override", "dac_read_search"}
SLEEPER = "import time\nprint('ready', flush=True)\ntime.sleep(100)\n"


def status_of(pid):
    with open(f"/proc/{pid}/status") as file:
        return dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)


def capabilities(status, which):
    bits = int(status["Cap" + which], 16)
    return {NAMES.get(bit, str(bit)) for bit in range(64) if bits >> bit & 1}


def children_of(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return [int(word) for word in file.read().split()]


class PrivilegesTest(RootTest):
    def show(self, name, status):
        print(f"{name}: in effect {sorted(capabilities(status, 'Eff'))}, permitted {sorted(capabilities(status, 'Prm'))}, "
              f"no_new_privs {status['NoNewPrivs']}, seccomp {status['Seccomp']}")

    def test_while_tracing(self):
        target = self.start_python(SLEEPER)
        tracer = self.start(MEMTRACE, "-q", "-p", str(target.pid), stdout=subprocess.DEVNULL)
        wait_until(lambda: is_attached(tracer.pid) and int(status_of(tracer.pid)["NoNewPrivs"]))
        status = status_of(tracer.pid)
        self.show("memtrace, tracing", status)
        allowed = FIVE | {"setuid", "setgid", "kill", "sys_admin", "sys_resource"}
        self.assertLessEqual(capabilities(status, "Eff"), allowed)
        self.assertLessEqual(FIVE, capabilities(status, "Eff"))
        self.assertLessEqual(capabilities(status, "Prm"), allowed | {"dac_override", "fowner"})
        self.assertEqual(capabilities(status, "Inh") | capabilities(status, "Amb"), set())
        for child in children_of(tracer.pid):
            status = status_of(child)
            self.show("its child that reads", status)
            self.assertLessEqual(capabilities(status, "Prm"), READS)
            self.assertEqual((status["NoNewPrivs"], status["Seccomp"]), ("1", "2"))

    def test_the_command_has_what_it_would_have_had(self):
        plain = subprocess.run(["grep", "-E", "Cap|NoNewPrivs|Seccomp:", "/proc/self/status"], capture_output=True, text=True).stdout
        traced = self.memtrace("run", "-q", "-o", "/dev/null", "--", "grep", "-E", "Cap|NoNewPrivs|Seccomp:", "/proc/self/status")
        self.assertEqual(traced.stdout, plain)

    def test_explain(self):
        target = self.start_python("x = [[i] for i in range(3000000)]\n" + SLEEPER)
        looker = self.start(MEMTRACE, "explain", "-p", str(target.pid), stdout=subprocess.DEVNULL)
        seen = None
        while looker.poll() is None:
            try:
                status = status_of(looker.pid)
                if status.get("NoNewPrivs") == "1" and "CapEff" in status:
                    seen = status
            except (FileNotFoundError, ProcessLookupError):
                break
            time.sleep(0.001)
        self.assertIsNotNone(seen)
        self.show("memtrace explain", seen)
        self.assertLessEqual(capabilities(seen, "Eff"), {"sys_ptrace", "checkpoint_restore", "dac_read_search", "setuid", "setgid"})
