# pymalloc's own table of its arenas, which grew while blocks lay at the heap's end, keeps their memory.
# findings: live_objects 45, heap_top_pinned 21
# pin: pymalloc's own table of its arenas
# remedy: trim heap_top_pinned
touched(8 << 20)  # its end raises the thresholds: to 8 MiB, and 16 MiB
fill = [bytearray(1 << i) for i in range(16, 9, -1) for j in range(50)]  # leaves no hole for the table below the blocks
blocks = [touched(7 << 20) for i in range(3)]
node = None
for i in range(400000):
    node = (node, i + 0.5)
del blocks
wait()
