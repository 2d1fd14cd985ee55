# Prints, for every code object of some modules: its first line, its table in hex, and the line of each instruction as
# the interpreter itself decodes it. One code object a line. For CPython 2.7 and all of 3.
import argparse
import collections
import copy
import decimal
import dis
import inspect
import sys
import types


def code_objects(code):
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            for inner in code_objects(constant):
                yield inner


def lines_of(code):
    """Of each instruction; they are two bytes each, before 3.6 one or three."""
    if hasattr(code, "co_positions"):
        return [position[0] for position in code.co_positions()]
    size = 2 if sys.version_info >= (3, 6) else 1
    if hasattr(code, "co_lines"):
        lines = {}
        for start, end, line in code.co_lines():
            lines.update((offset, line) for offset in range(start, end))
        return [lines.get(offset) for offset in range(0, len(code.co_code), size)]
    starts, line, lines = dict(dis.findlinestarts(code)), code.co_firstlineno, []
    for offset in range(0, len(code.co_code), size):
        line = starts.get(offset, line)
        lines.append(line)
    return lines


long_jump = compile("x = (\n" + "\n" * 3000 + "1 +\n" + "\n" * 400 + "y)\n", "long_jump", "exec")
sources = [compile(inspect.getsource(module), module.__name__, "exec")
           for module in (argparse, collections, copy, decimal, inspect)]
for top in sources + [long_jump]:
    for code in code_objects(top):
        table = getattr(code, "co_linetable", None) or code.co_lnotab
        lines = ",".join("-" if line is None else str(line) for line in lines_of(code))
        print("%d %s %s" % (code.co_firstlineno, "".join("%02x" % byte for byte in bytearray(table)) or "-", lines))
