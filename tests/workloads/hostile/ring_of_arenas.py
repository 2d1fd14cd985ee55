"""A thread's arena of the C library, of many small chunks, whose successor in the list of arenas is itself now and then, so
that it may be found before, and walked then."""
import ctypes
import itertools
import sys
import threading
import time

HEAP_BYTES = 64 << 20  # and aligned to that: HEAP_MAX_SIZE
NEXT = 2160            # malloc_state.next of glibc 2.27 and later, on 64 bits

libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
filled, done = threading.Event(), threading.Event()
arena = 0


def fill():
    global arena
    for _ in itertools.repeat(None, int(sys.argv[1])):
        last = libc.malloc(24)
    arena = ctypes.c_uint64.from_address(last & -HEAP_BYTES).value
    filled.set()
    done.wait()


threading.Thread(target=fill, daemon=True).start()
filled.wait()
successor = ctypes.c_uint64.from_address(arena + NEXT)
others = successor.value


def turn():
    while True:
        successor.value = arena
        time.sleep(0.01)
        successor.value = others
        time.sleep(0.01)


threading.Thread(target=turn, daemon=True).start()
print("ready", flush=True)
sys.stdin.readline()
