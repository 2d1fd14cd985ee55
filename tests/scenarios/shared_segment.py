# A file in memory (tmpfs) is shared memory, however it is mapped, and whatever its name.
# pythons: 3.11
# findings: shared 64
# remedy: close shared
import mmap
import tempfile

file = tempfile.TemporaryFile(dir="/dev/shm")
file.write(b"x" * (64 << 20))
file.flush()
memory = mmap.mmap(file.fileno(), 64 << 20, mmap.MAP_PRIVATE, mmap.PROT_READ)
total = sum(memory[i] for i in range(0, len(memory), 4096))
wait(close=memory.close)
