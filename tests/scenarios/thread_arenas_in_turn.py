# The same, but one thread after the other: with fewer heaps each would have used what the one before has left.
# findings: thread_arenas 54
# restart: MALLOC_ARENA_MAX=2 thread_arenas at-most
# remedy: trim thread_arenas
import threading

left = []


def work():
    blocks = [bytearray(600 + i * 7919 % 20000) for i in range(1500)]
    left.extend(blocks[::10])
    del blocks
    done.set()
    time.sleep(1000)


for i in range(4):
    done = threading.Event()
    threading.Thread(target=work, daemon=True).start()
    done.wait()
wait()
