# A file mapped and read, and mapped privately and written.
import mmap
import tempfile

SIZE = 24 << 20
with tempfile.TemporaryFile(dir="/var/tmp") as file:
    file.truncate(SIZE)
    shared = mmap.mmap(file.fileno(), SIZE)
    total = 0
    for offset in range(0, SIZE, 4096):
        shared[offset] = 1
    shared.flush()
    private = mmap.mmap(file.fileno(), SIZE, access=mmap.ACCESS_COPY)
    for offset in range(0, SIZE, 4096):
        total += private[offset]
    for offset in range(0, SIZE // 2, 4096):
        private[offset] = 2
    private.close()
    shared.close()
assert total == SIZE // 4096
