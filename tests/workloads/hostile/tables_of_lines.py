"""Code objects that share a table of lines of 4 MiB, and one that is called at many depths."""
import mmap
import sys
import types

codes, depth, entries_are_many = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "many"


def touch(left):
    with mmap.mmap(-1, 1 << 16) as fresh:
        for at in range(0, len(fresh), 4096):
            fresh[at] = 1
    if left:
        deeper(left - 1)


# Of one-line entries (kind 10) for 8 instructions, or of one that says for ever at which column it is.
table = bytes([0x80 | 10 << 3 | 7, 0]) * ((4 << 19) - 64) if entries_are_many else bytes([0x80 | 10 << 3 | 7]) + bytes((4 << 20) - 99)
functions = [types.FunctionType(touch.__code__.replace(co_linetable=table, co_name=f"f{i}", co_qualname=f"f{i}"), globals())
             for i in range(codes)]
deeper = functions[0]
sys.setrecursionlimit(10000)
print("ready", flush=True)
sys.stdin.readline()
for function in functions:
    function(0)
deeper(depth)
print("done", flush=True)
sys.stdin.readline()
