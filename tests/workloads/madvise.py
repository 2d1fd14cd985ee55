# Memory given back without unmapping it.
import mmap

SIZE = 32 << 20
memory = mmap.mmap(-1, SIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)


def touch():
    for offset in range(0, SIZE, 4096):
        memory[offset] = 1


def give_back():
    memory.madvise(mmap.MADV_DONTNEED)


touch()
give_back()
touch()
