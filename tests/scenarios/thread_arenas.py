# Each thread's blocks come from a heap of its own; most are gone.
# findings: thread_arenas 54
# restart: MALLOC_ARENA_MAX=2 thread_arenas at-most
# remedy: trim thread_arenas
import threading

left = []


def work():
    blocks = [bytearray(600 + i * 7919 % 20000) for i in range(1500)]
    left.extend(blocks[::10])
    barrier.wait()
    del blocks
    barrier.wait()
    time.sleep(1000)


barrier = threading.Barrier(5)
for i in range(4):
    threading.Thread(target=work, daemon=True).start()
barrier.wait()
barrier.wait()
wait()
