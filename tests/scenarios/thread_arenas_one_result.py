# One thread after the other, and all that stays of each is a result at its heap's end: with fewer heaps next to nothing.
# findings: thread_arenas 109
# restart: MALLOC_ARENA_MAX=2 thread_arenas at-most
# remedy: trim thread_arenas
import threading

left = []


def work():
    blocks = [bytearray(96000) for i in range(150)]
    left.append(bytearray(2000))
    del blocks
    done.set()
    time.sleep(1000)


for i in range(8):
    done = threading.Event()
    threading.Thread(target=work, daemon=True).start()
    done.wait()
wait()
