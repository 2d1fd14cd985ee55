# The same, freed in no order: areas that were joined before they were joined are no blocks either.
# findings: heap_fragmented 20.6
# absent: mmap_threshold_moved
# remedy: trim heap_fragmented
touched(4 << 20)
blocks = {i * 7919 % 900: bytearray(24000) for i in range(900)}
above = [bytearray(24000) for i in range(150)]
for i in range(900):
    del blocks[i]
wait()
