# Blocks of mixed sizes, of which most are gone: the free memory lies between those that are left.
# findings: heap_fragmented 53
# remedy: trim heap_fragmented
blocks = [bytearray(600 + i * 7919 % 20000) for i in range(6000)]
left = blocks[::8]
del blocks
wait()
