# A prefork server in small: children write to what they inherited, and end by themselves.
import os

data = [str(i) for i in range(200_000)]


def child():
    for item in data:  # touches every reference count: copy on write
        pass
    more = bytearray(8 << 20)
    more[::4096] = bytes(len(more[::4096]))


for _ in range(3):
    pid = os.fork()
    if pid == 0:
        child()
        os._exit(0)
    os.waitpid(pid, 0)
