# The same, and written to: the kernel writes it to the file.
# findings: file_cache 70
# absent: shared
# remedy: close file_cache
import mmap
import tempfile

file = tempfile.TemporaryFile(dir=on_disk)
file.truncate(64 << 20)
memory = mmap.mmap(file.fileno(), 0)
for i in range(0, len(memory), 4096):
    memory[i] = 1
wait(close=memory.close)
