# Without the GIL, objects of all sizes come from mimalloc.
# pythons: 3.13t
# findings: live_objects 62
keep = [(i, float(i)) for i in range(400000)]
wait()
