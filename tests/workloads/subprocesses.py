# posix_spawn and vfork: children that live in their parent's memory until they exec.
import subprocess
import sys

for _ in range(5):
    subprocess.run([sys.executable, "-c", "x = bytearray(4 << 20); x[::4096] = bytes(1024)"], check=True)
subprocess.run(["/bin/true"], check=True)
