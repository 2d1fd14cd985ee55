# Python 2 never gives the room of its ints back.
# pythons: 2.7
# findings: free_list 23
numbers = range(1000000)
del numbers
wait()
