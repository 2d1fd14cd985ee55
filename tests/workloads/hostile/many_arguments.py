"""So many processes, a few at a time, each with 65,000 empty arguments."""
import os
import sys

ARGUMENTS = ["true"] + [""] * 65_000
left, running = int(sys.argv[1]), 0
print("ready", flush=True)
sys.stdin.readline()
while left or running:
    while left and running < 50:
        left, running = left - 1, running + 1
        if os.fork() == 0:
            os.execv("/bin/true", ARGUMENTS)
    os.wait()
    running -= 1
print("done", flush=True)
sys.stdin.readline()
