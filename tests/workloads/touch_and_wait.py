# Sixteen threads that touch 40 pages each, and live on: before Linux 6.2 each keeps that to itself.
import mmap
import sys
import threading

THREADS = 16
SIZE = 40 * 4096
memories = [mmap.mmap(-1, SIZE) for _ in range(THREADS)]
begin, wait = threading.Event(), threading.Event()
touched = threading.Barrier(THREADS + 1)


def touch(memory):
    begin.wait()
    for offset in range(0, SIZE, 4096):
        memory[offset] = 1
    touched.wait()
    wait.wait()


for memory in memories:
    threading.Thread(target=touch, args=(memory,), daemon=True).start()
print("ready", flush=True)
sys.stdin.readline()
begin.set()
touched.wait()
print("done", flush=True)
sys.stdin.readline()
