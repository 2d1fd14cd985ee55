# More threads than are searched for. The oldest ones then each fill a mapping of 256 KiB, without the GIL.
import mmap
import sys
import threading

THREADS, WORKERS, SIZE = 1500, 50, 256 << 10
threading.stack_size(64 << 10)
gate = threading.Event()


def work(number):
    gate.wait()
    if number < WORKERS:
        with open("/dev/zero", "rb", buffering=0) as zeros:
            memory = mmap.mmap(-1, SIZE)
            zeros.readinto(memory)
            memory.close()


threads = [threading.Thread(target=work, args=(number,)) for number in range(THREADS)]
for thread in threads:
    thread.start()
print("ready", flush=True)
sys.stdin.readline()
gate.set()
for thread in threads:
    thread.join()
print("done", flush=True)
sys.stdin.readline()
