# Both: what would help the one does not help the other.
# findings: mmap_threshold_moved 24, heap_fragmented 11.4
# restart: MALLOC_MMAP_THRESHOLD_=131072 mmap_threshold_moved 10
# remedy: trim mmap_threshold_moved
touched(4 << 20)
small = [bytearray(24000) for i in range(250)]
large = [touched(1 << 20) for i in range(24)]
more = [bytearray(24000) for i in range(250)]
above = [touched(1 << 20) for i in range(8)]
last = bytearray(24000)
del small, large, more
wait()
