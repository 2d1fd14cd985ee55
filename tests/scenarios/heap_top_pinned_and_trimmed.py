# The same, and malloc_trim(0).
# findings: heap_top_pinned 39
# remedy: trim heap_top_pinned
blocks = [bytearray(20000) for i in range(2000)]
last = [bytearray(20000)]
del blocks
wait()
