# A file's pages are the process's own once it has written to them in a private mapping.
# findings: file_cache 70
# absent: shared
# remedy: close file_cache
import mmap
import tempfile

file = tempfile.TemporaryFile(dir=on_disk)
file.truncate(64 << 20)
memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
for i in range(0, len(memory), 4096):
    memory[i] = 1
wait(close=memory.close)
