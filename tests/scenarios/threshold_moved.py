# Freeing 30 MiB, a mapping, makes blocks of 20 MiB come from the heap, where they stay below one that lives.
# findings: mmap_threshold_moved 40
# restart: MALLOC_MMAP_THRESHOLD_=131072 mmap_threshold_moved 10
# remedy: trim mmap_threshold_moved
touched(30 << 20)
first, second, last = touched(20 << 20), touched(20 << 20), touched(25 << 20)
del first, second
wait()
