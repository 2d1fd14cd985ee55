# Threads' large blocks come from their heaps once the threshold has moved.
# findings: thread_arenas 128
# restart: MALLOC_MMAP_THRESHOLD_=131072 thread_arenas 10
# remedy: trim thread_arenas
import threading

left = []


def work():
    blocks = [touched(4 << 20) for i in range(8)]
    left.append(bytearray(2000))
    del blocks
    done.set()
    time.sleep(1000)


touched(5 << 20)
for i in range(4):
    done = threading.Event()
    threading.Thread(target=work, daemon=True).start()
    done.wait()
wait()
