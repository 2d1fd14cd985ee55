# All of it goes back.
# findings: peak_then_returned 84
import pickle

copy = pickle.loads(pickle.dumps([bytes(400) for i in range(100000)]))
del copy
wait()
