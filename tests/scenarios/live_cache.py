# A cache that only grows: nothing is wrong with the allocators.
# findings: live_objects 69
cache = {}
for i in range(300000):
    cache["user-%d" % i] = {"id": i} if i % 10 == 0 else (i, float(i))
wait(clear=cache.clear)
