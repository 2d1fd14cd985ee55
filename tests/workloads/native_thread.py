# native_thread.py LIBRARY: a C thread does what is written to stdin, and answers on stdout. Python only sleeps.
import ctypes
import time

import sys

library = ctypes.CDLL(sys.argv[1])
library.start_thread(0, 1)
while True:
    time.sleep(1000)
