# Large blocks below a little that is in use: malloc_trim(0) helps once, the threshold for good.
# findings: heap_top_pinned 117
# absent: mmap_threshold_moved
# restart: MALLOC_MMAP_THRESHOLD_=131072 heap_top_pinned 10
# remedy: trim heap_top_pinned
touched(3 << 20)
blocks = [touched(3 << 20) for i in range(40)]
last = blocks.pop()
blocks.clear()
wait()
