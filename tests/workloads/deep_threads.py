# -*- coding: utf-8 -*-
# Thirteen threads, each deep in calls of a different kind, which then wait. Prints what the interpreter itself says of
# them: for each its pthread_self() and its frames, innermost first, as JSON. For CPython 2.7 and all of 3.
import functools
import json
import sys
import threading

DEPTH = int(sys.argv[1]) if len(sys.argv) > 1 else 25
gate = threading.Semaphore(0)
waiting = threading.Semaphore(0)


def wait():
    waiting.release()
    gate.acquire()


def recurse(n):
    if n == 0:
        wait()
        return 0
    return (1 +
            recurse(n - 1) +
            0)


def generate(n):
    if n == 0:
        wait()
    else:
        for value in generate(n - 1):
            yield value
    yield n


def run_generators(n):
    for _ in generate(n):
        pass


class Method(object):
    def __init__(self, n):
        self.n = n

    def call(self):
        if self.n == 0:
            wait()
        else:
            Method(self.n - 1).call()

    @property
    def attribute(self):
        return Method(self.n - 1).attribute if self.n else wait()

    def __enter__(self):
        if self.n:
            with Method(self.n - 1):
                pass
        else:
            wait()

    def __exit__(self, *arguments):
        pass


def through_c(n):
    """C code calls back: sorted's key, map, reduce."""
    if n == 0:
        wait()
    elif n % 3 == 0:
        sorted([n], key=lambda one: through_c(one - 1))
    elif n % 3 == 1:
        list(map(through_c, [n - 1]))
    else:
        functools.reduce(lambda a, b: through_c(b), [0, n - 1])


def comprehend(n):
    return [comprehend(m) for m in [n - 1]] if n else wait()


def comprehend_dicts(n):
    return {
        m:
        comprehend_dicts(m)
        for m in [n - 1]
    } if n else wait()


def handle(n):
    try:
        raise ValueError(n)
    except ValueError:
        if n:
            handle(n - 1)
        else:
            wait()
    finally:
        n = None


def finish(n):
    try:
        pass
    finally:
        if n:
            finish(n - 1)
        else:
            wait()


def make_classes(n):
    class Body(object):
        inner = make_classes(n - 1) if n else wait()

    return Body


def decorated(function):
    @functools.wraps(function)
    def wrapper(n):
        return function(n)
    return wrapper


@decorated
@decorated
def wrapped(n):
    if n > 2:
        wrapped(n - 3)
    else:
        wait()


names = {"wait": wait}
exec(compile(u"""
def far(n):
    if n:
""" + u"\n" * 300 + u"""
        far(n - 1)
    else:
        wait()
""", u"n\xe9\u4e2d.py" if sys.version_info[0] > 2 else "n\xc3\xa9.py", "exec"), names)
if sys.version_info[0] > 2:
    exec(compile(u"def f\xe9\u4e2d(n):\n    far(n)\n", u"\U0001f40d.py", "exec"), names)
    names["start"] = names[u"f\xe9\u4e2d"]
else:
    names["start"] = names["far"]

jobs = [recurse, run_generators, lambda n: Method(n).call(), lambda n: Method(n).attribute,
        lambda n: Method(n).__enter__(), through_c, comprehend, comprehend_dicts, handle, finish, make_classes,
        wrapped, names["start"]]
threads = []
for job in jobs:
    threads.append(threading.Thread(target=job, args=(DEPTH,)))
    threads[-1].daemon = True
    threads[-1].start()
for _ in threads:
    waiting.acquire()


def frames_of(frame):
    while frame:
        code = frame.f_code
        name = getattr(code, "co_qualname", code.co_name)
        yield "%s:%d %s" % (code.co_filename, frame.f_lineno, name)
        frame = frame.f_back


# A thread may not have blocked yet. All do so at the same line.
def snapshot():
    frames = sys._current_frames()
    return dict((thread.ident, list(frames_of(frames[thread.ident]))) for thread in threads)


before, now = None, snapshot()
while before != now or len(set(stack[0] for stack in now.values())) > 1:
    before, now = now, snapshot()
sys.stdout.write(json.dumps(now) + "\n")
sys.stdout.flush()
sys.stdin.readline()
