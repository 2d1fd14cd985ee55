# Eight threads that grow and drop memory at the same time.
import threading


def grow(rounds):
    for _ in range(rounds):
        kept = [bytearray(4096) for _ in range(2000)]
        del kept


threads = [threading.Thread(target=grow, args=(20,)) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
