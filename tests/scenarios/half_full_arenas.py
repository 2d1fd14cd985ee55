# Two objects in three are gone, evenly: every pool of every arena has room.
# findings: pool_slack 30, live_objects 21
keep = [float(i) for i in range(1500000)]
others = [keep[i] for i in range(0, len(keep), 3)]
del keep
wait()
