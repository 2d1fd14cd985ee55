# Objects come from the C heap when CPython is told so.
# environment: PYTHONMALLOC=malloc
# findings: live_objects 61
keep = [(i, float(i)) for i in range(400000)]
wait()
