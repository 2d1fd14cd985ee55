# Memory that children would share.
# findings: shared 64
# remedy: close shared
import mmap

memory = mmap.mmap(-1, 64 << 20)
for i in range(0, len(memory), 4096):
    memory[i] = 1
wait(close=memory.close)
