# The threshold has moved, but what is free was small blocks side by side: these come from the heap anyway.
# findings: heap_fragmented 20.6
# absent: mmap_threshold_moved
# remedy: trim heap_fragmented
touched(4 << 20)  # its end raises the threshold
blocks = [bytearray(24000) for i in range(900)]
above = [bytearray(24000) for i in range(150)]
del blocks
wait()
