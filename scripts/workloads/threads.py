# Four threads, each of which makes and drops lists of strings and blocks of 2 MiB.
import threading

THREADS = 4
ROUNDS = 20
BLOCK = 2 << 20


def work():
    for _ in range(ROUNDS):
        strings = [str(i) for i in range(10_000)]
        block = bytearray(BLOCK)
        block[:] = b"x" * BLOCK
        del strings, block


threads = [threading.Thread(target=work) for _ in range(THREADS)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
