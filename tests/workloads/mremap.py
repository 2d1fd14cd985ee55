# One big list grows by append: realloc becomes mremap.
def grow():
    big = []
    for i in range(3_000_000):
        big.append(None)
    return len(big)


grow()
