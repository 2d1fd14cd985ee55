# Eight threads that take and give up the GIL all the time. Each maps memory, has the kernel fill it, and unmaps it, the
# latter two without the GIL, at lines of its own: thread N maps N + 1 times 64 KiB.
import mmap
import sys
import threading

ROUNDS = 200
sys.setswitchinterval(1e-5)

source = """
def work(zeros):
    for _ in range(ROUNDS):
        memory = mmap.mmap(-1, SIZE)
        zeros.readinto(memory)
        memory.close()
        sum(i for i in range(300))
"""
threads = []
for number in range(8):
    names = {"ROUNDS": ROUNDS, "SIZE": (number + 1) * 65536, "mmap": mmap}
    exec(compile(source, "thread-%d.py" % number, "exec"), names)
    threads.append(threading.Thread(target=names["work"], args=(open("/dev/zero", "rb", buffering=0),)))
print("ready", flush=True)
sys.stdin.readline()
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print("done", flush=True)
sys.stdin.readline()
