# Cycles that only the collector can free.
import gc


class Node:
    def __init__(self):
        self.me = self
        self.payload = bytearray(2000)


def churn():
    for _ in range(10):
        nodes = [Node() for _ in range(5000)]
        del nodes
        gc.collect()


churn()
