"""Touches pages at the end of a long chain of calls or of generators, or in many threads; a megabyte each time, 100 times."""
import mmap
import sys
import threading

kind, count = sys.argv[1], int(sys.argv[2])
kept = []


def touch(pages=256):
    memory = mmap.mmap(-1, pages * 4096)
    for at in range(0, pages * 4096, 4096):
        memory[at] = 1
    kept.append(memory)


def work():
    print("ready", flush=True)
    sys.stdin.readline()
    for _ in range(100):
        touch()
        yield
    print("done", flush=True)
    sys.stdin.readline()


def call(depth):
    if depth:
        return call(depth - 1)
    return sum(1 for _ in work())


def generate(depth):
    if depth:
        yield from generate(depth - 1)
    else:
        yield from work()


def run(function, *args):
    sys.setrecursionlimit(count + 1000)
    threading.stack_size(1 << 30)
    thread = threading.Thread(target=function, args=args)
    thread.start()
    thread.join()


if kind == "calls":
    run(call, count)
elif kind == "generators":
    run(lambda: list(generate(count)))
else:
    turns = threading.Semaphore(0)
    ended = threading.Event()

    def wait():
        turns.acquire()
        touch()
        turns.release()
        ended.wait()

    threading.stack_size(256 << 10)
    threads = [threading.Thread(target=wait) for _ in range(count)]
    for thread in threads:
        thread.start()
    print("ready", flush=True)
    sys.stdin.readline()
    turns.release()
    while len(kept) < count:
        pass
    print("done", flush=True)
    sys.stdin.readline()
    ended.set()
