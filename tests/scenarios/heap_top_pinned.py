# One small block lies at the end of a heap that is free below it.
# findings: heap_top_pinned 39
# remedy: drop heap_top_pinned
blocks = [bytearray(20000) for i in range(2000)]
last = [bytearray(20000)]
del blocks
wait(drop=last.clear)
