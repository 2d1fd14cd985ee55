# Blocks of 33 MiB, allocated, filled and freed in turn: each is a mapping of its own, beyond what malloc ever keeps.
BLOCKS = 20
SIZE = 33 << 20


def fill():
    block = b"x" * SIZE
    del block


for _ in range(BLOCKS):
    fill()
