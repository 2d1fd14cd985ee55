# Pages that were given up with MADV_FREE stay until the kernel needs them.
# findings: lazy_free 64
import mmap

memory = mmap.mmap(-1, 64 << 20, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
for i in range(0, len(memory), 4096):
    memory[i] = 1
memory.madvise(8)  # MADV_FREE
wait()
