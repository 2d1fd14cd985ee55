# 256 MiB mapped and written page by page, from Python.
import mmap

PAGE = 4096
SIZE = 256 << 20


def storm():
    memory = mmap.mmap(-1, SIZE)
    for offset in range(0, SIZE, PAGE):
        memory[offset] = 1
    memory.close()


storm()
