# The same, without one that lives: the end of the heap is free, and below the threshold, which is 60 MiB now.
# findings: trim_threshold 20
# restart: MALLOC_TRIM_THRESHOLD_=131072 trim_threshold 10
# remedy: trim trim_threshold
touched(30 << 20)
block = touched(20 << 20)
del block
wait()
