"""Names of everything that memtrace prints, with what a terminal would obey."""
import mmap
import os
import sys

COLOUR, TITLE, C1, TURN = "\x1b[31m", "\x1b]0;owned\x07", "\x9b31m\x9d0;t\x9c\x85", "\u202e\u2028"
SOURCE = ("def touch():  # " + C1 + TURN + "\x7f\x0c\n"
          "    memory = mmap.mmap(-1, 1 << 20)\n"
          "    for at in range(0, 1 << 20, 4096): memory[at] = 1  # " + COLOUR + "\n"
          "    kept.append(memory)\n")
kept = []


def names():
    folder = sys.argv[1]
    for name in ("source.py", "source" + TITLE + C1 + "\n.py"):
        file = os.path.join(folder, name)
        with open(file, "w", encoding="utf-8", errors="surrogateescape") as out:
            out.write(SOURCE)
        yield file
    yield from ("file" + COLOUR, "new\nline " + C1, "turned" + TURN, "no utf-8 \udcff\udc9b")


functions = []
for i, name in enumerate(names()):
    space = {"mmap": mmap, "kept": kept}
    exec(compile(SOURCE, "source.py", "exec"), space)
    function = space["touch"]
    called = "f" + str(i) + TITLE + C1
    function.__code__ = function.__code__.replace(co_filename=name, co_name=called, co_qualname=called)
    functions.append(function)
objects = [[type("Class" + text, (), {})() for _ in range(20000)] for text in (TITLE, C1, TURN, "\n")]
print("ready", flush=True)
sys.stdin.readline()
for function in functions:
    function()
print("done", flush=True)
sys.stdin.readline()
