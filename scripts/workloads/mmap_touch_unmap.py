# 1 MiB of private memory mapped, written page by page, and unmapped, again and again.
import mmap

PAGE = 4096
SIZE = 1 << 20
ROUNDS = 300


def map_touch_unmap():
    memory = mmap.mmap(-1, SIZE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    for offset in range(0, SIZE, PAGE):
        memory[offset] = 1
    memory.close()


for _ in range(ROUNDS):
    map_touch_unmap()
