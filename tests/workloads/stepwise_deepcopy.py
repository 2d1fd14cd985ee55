# The case that memtrace was born from, once, which waits before and after each step. For CPython 2.7 and all of 3.
import copy
import sys


def step():
    sys.stdout.write("step\n")
    sys.stdout.flush()
    sys.stdin.readline()


def function():
    step()
    x = list(range(1000000))
    step()
    y = copy.deepcopy(x)
    step()
    del x
    step()
    return y


step()
function()
step()
