# malloc_state.py LIBRARY: makes a mess of the C heap in four threads, and prints what the C library says of it.
import ctypes
import sys
import threading
import time

library = ctypes.CDLL(sys.argv[1])
library.make_a_mess(1)
threads = [threading.Thread(target=library.make_a_mess, args=(seed,)) for seed in (2, 3, 4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
time.sleep(0.5)  # what a thread has cached goes back to the heap when it is gone, which is after join()
try:
    info = ctypes.cast(ctypes.CDLL(None).mallinfo2, ctypes.c_void_p)
except AttributeError:
    info = None  # before glibc 2.33
library.report_and_wait.argtypes = [ctypes.c_void_p, ctypes.c_int]
library.report_and_wait(info, 1)
