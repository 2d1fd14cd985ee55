"""Touches memory at so many lines, at so many depths of a function that calls itself."""
import mmap
import sys
import time

lines, depths = int(sys.argv[1]), int(sys.argv[2])
memory = mmap.mmap(-1, lines * depths * 4096)
pages = iter(range(0, len(memory), 4096))


def touch():
    memory[next(pages)] = 1


space = {"touch": touch, "time": time}
exec("def walk(depth):\n    if depth:\n        walk(depth - 1)\n" + "    touch()\n" * lines + "    time.sleep(0.02)\n", space)
sys.setrecursionlimit(10000)
print("ready", flush=True)
sys.stdin.readline()
space["walk"](depths - 1)
print("done", flush=True)
sys.stdin.readline()
