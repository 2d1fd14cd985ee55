# A byte is written in each 2 MiB, and all of the 2 MiB are resident.
# findings: huge_pages 64
import mmap

memory = mmap.mmap(-1, 66 << 20, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
memory.madvise(14)  # MADV_HUGEPAGE
for i in range(0, len(memory), 1 << 20):
    memory[i] = 1
wait()
