# The integers are shared, not copied: when x is gone, y keeps them all.
# findings: live_objects 38.1
import copy


def function():
    x = list(range(1000000))
    y = copy.deepcopy(x)
    del x
    wait()
    return y


function()
