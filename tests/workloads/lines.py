"""Every way in which Python goes from line to line. With the argument "settrace" it counts its own lines, with
"setprofile" its calls.

Prints what sys.settrace saw: {"function:line": count}, or sys.setprofile: {"function": count}. What the python:line probe of CPython 3.11 leaves out by its nature
is left out here too: a code object's first line, when the object begins on that line (lambdas, comprehensions, classes).
"""
import json
import sys
import threading

counts = {}
counting = threading.Lock()  # a thread may be preempted between reading a count and writing it
started = set()  # frames that have reported a line; kept, so that none is taken for another


def first_line(code):
    return next(line for _, _, line in code.co_lines())


def local_trace(frame, event, argument):
    if event == "line":
        code = frame.f_code
        begun = frame in started
        started.add(frame)
        if sys.version_info < (3, 11) or begun or frame.f_lineno != first_line(code):
            name = f"{code.co_name}:{frame.f_lineno}"
            with counting:
                counts[name] = counts.get(name, 0) + 1
    return local_trace


def global_trace(frame, event, argument):
    return local_trace if frame.f_code.co_filename == __file__ else None


def profile(frame, event, argument):
    if event == "call" and frame.f_code.co_filename == __file__:
        name = frame.f_code.co_name
        with counting:
            counts[name] = counts.get(name, 0) + 1


def loops():
    total = 0
    for i in range(300):
        if i % 3 == 0:
            continue
        while total % 7:
            total += 1
        total += i
    return total


def factorial(n):
    if n == 0:
        return 1
    return n * factorial(n - 1)


def generate(n):
    for i in range(n):
        received = yield i
        if received:
            n = 0


def use_generators():
    total = 0
    for value in generate(200):
        total += value
    half_used = generate(50)
    next(half_used)
    next(half_used)
    half_used.close()
    pairs = zip(generate(20), generate(20))
    for a, b in pairs:
        total += a * b
    return total


def fail(depth):
    if depth:
        fail(depth - 1)
    else:
        raise ValueError(
            "deep")


def exceptions():
    caught = 0
    for depth in range(10):
        try:
            fail(depth)
        except ValueError:
            caught += 1
        finally:
            caught += 0
    with open("/dev/null") as null:
        null.read()
    return caught


def comprehensions():
    squares = [i * i
               for i in range(100)
               if i % 2]
    index = {i: str(i)
             for i in squares}
    total = sum(
        i for i in squares
    )
    ordered = sorted(squares, key=lambda i: -i)
    return len(index), total, ordered


def make_class():
    class Shape:
        sides = 4

        def area(self, width):
            return (width *
                    self.sides)

    return Shape


def in_a_thread(n):
    local = 0
    shape = make_class()()
    for i in range(n):
        local += shape.area(i)
    return local


def main():
    loops()
    factorial(40)
    use_generators()
    exceptions()
    comprehensions()
    threads = [threading.Thread(target=in_a_thread, args=(100 * (i + 1),)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if "settrace" in sys.argv:
    threading.settrace(global_trace)
    sys.settrace(global_trace)
    main()
    sys.settrace(None)
    print(json.dumps(counts))
elif "setprofile" in sys.argv:
    threading.setprofile(profile)
    sys.setprofile(profile)
    main()
    sys.setprofile(None)
    print(json.dumps(counts))
else:
    main()
