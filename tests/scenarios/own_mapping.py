# Memory that an object has mapped for itself.
# findings: live_objects 64
# absent: native_live
import mmap

memory = mmap.mmap(-1, 64 << 20, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
for i in range(0, len(memory), 4096):
    memory[i] = 1
wait()
