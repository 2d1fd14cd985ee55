# A file is mapped privately, and read.
# findings: file_cache 70
# remedy: close file_cache
import mmap
import tempfile

file = tempfile.TemporaryFile(dir=on_disk)
file.write(b"x" * (64 << 20))
file.flush()
memory = mmap.mmap(file.fileno(), 64 << 20, mmap.MAP_PRIVATE, mmap.PROT_READ)
total = sum(memory[i] for i in range(0, len(memory), 4096))
wait(close=memory.close)
