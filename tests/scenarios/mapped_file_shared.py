# A file is mapped as if to share it, as is usual, by one process that reads it: the kernel can drop it all the same.
# findings: file_cache 70
# absent: shared
# remedy: close file_cache
import mmap
import tempfile

file = tempfile.TemporaryFile(dir=on_disk)
file.write(b"x" * (64 << 20))
file.flush()
memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
total = sum(memory[i] for i in range(0, len(memory), 4096))
wait(close=memory.close)
