# POSIX shared memory, written here and read in a child.
import mmap
import os

SIZE = 24 << 20
memory = mmap.mmap(-1, SIZE)  # MAP_SHARED


def write():
    for offset in range(0, SIZE, 4096):
        memory[offset] = 1


write()
pid = os.fork()
if pid == 0:
    sum(memory[offset] for offset in range(0, SIZE, 4096))
    os._exit(0)
os.waitpid(pid, 0)
memory.close()
