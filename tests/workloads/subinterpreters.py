# Code in two sub-interpreters, one made by the other, that maps and fills memory at lines of its own: in the outer one at
# lines 5 and 9, in the inner one at line 104, where 105 unmaps it. For CPython 3.8 and later.
import sys
import time

if sys.version_info >= (3, 13):
    import _interpreters as interpreters
else:
    import _xxsubinterpreters as interpreters

size = 8 << 20
inner = "\n" * 100 + """
import mmap
m = mmap.mmap(-1, %d)
for i in range(0, len(m), 4096): m[i] = 1
m.close()
""" % size
outer = """
import mmap
import %s as interpreters
before = mmap.mmap(-1, %d)
for i in range(0, len(before), 4096): before[i] = 1
made = interpreters.create()
interpreters.run_string(made, %r)
after = mmap.mmap(-1, %d)
for i in range(0, len(after), 4096): after[i] = 1
interpreters.destroy(made)
""" % (interpreters.__name__, size, inner, size)

time.sleep(0.5)  # memtrace finds a newly started interpreter
made = interpreters.create()
interpreters.run_string(made, outer)
interpreters.destroy(made)
kept = bytearray(size)
