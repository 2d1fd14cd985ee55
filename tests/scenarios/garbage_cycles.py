# Objects that refer to each other wait for the garbage collector, which is off.
# findings: gc_uncollected 33-47
# remedy: collect gc_uncollected
gc.disable()


class Node(object):
    def __init__(self):
        self.itself = self
        self.others = [self, self]


for i in range(200000):
    Node()
wait(collect=gc.collect)
