# Prints, for every code object of some modules: its first line, its table in hex, and the line of each instruction as
# the interpreter itself decodes it. One code object a line.
import asyncio.base_events
import copy
import decimal
import inspect
import types


def code_objects(code):
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from code_objects(constant)


long_jump = compile("x = (\n" + "\n" * 3000 + "1 +\n" + "\n" * 400 + "y)\n", "long_jump", "exec")
sources = [compile(inspect.getsource(module), module.__name__, "exec")
           for module in (asyncio.base_events, copy, decimal, inspect)]
for top in [*sources, long_jump]:
    for code in code_objects(top):
        lines = ",".join("-" if position[0] is None else str(position[0]) for position in code.co_positions())
        print(code.co_firstlineno, code.co_linetable.hex(), lines)
