# They leave a heap full of holes when they are gone.
# environment: PYTHONMALLOC=malloc
# findings: heap_fragmented 43
# remedy: trim heap_fragmented
keep = [bytes(1000) for i in range(50000)]
keep = [keep[i] for i in range(0, len(keep), 10)]
wait()
