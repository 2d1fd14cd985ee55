# Freeing the first call's lists, mappings of their own, has raised the threshold: the third call's come from the heap,
# and "del x" gives nothing back.
# findings: live_objects 38.1, mmap_threshold_moved 7.6
# restart: MALLOC_MMAP_THRESHOLD_=131072 mmap_threshold_moved 10
# remedy: trim mmap_threshold_moved
import copy


def function(last):
    x = list(range(1000000))
    y = copy.deepcopy(x)
    del x
    if last:
        wait()
    return y


for i in range(3):
    function(i == 2)
