# Touches pages, then closes a mapping that was never touched, which changes nothing. Before Linux 6.2 a thread keeps up to 63
# changes to itself, and the kernel tells of them at the thread's next system call that counts pages: here, that of close().
import mmap

SIZE = 40 * 4096


def touch(memory):
    for offset in range(0, len(memory), 4096):
        memory[offset] = 1


def close(memory):
    memory.close()


touched, untouched = mmap.mmap(-1, SIZE), mmap.mmap(-1, 4096)
for _ in range(70):  # what was kept of the start is told by now
    mmap.mmap(-1, 4096)[0] = 1
touch(touched)
close(untouched)
