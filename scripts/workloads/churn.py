# Allocation churn: 3 million small objects in waves, one in a thousand of which is kept.
WAVES = 30
OBJECTS = 100_000


def wave(kept):
    objects = [(i, str(i)) for i in range(OBJECTS)]
    kept.extend(objects[::1000])


def churn():
    kept = []
    for _ in range(WAVES):
        wave(kept)
    return len(kept)


churn()
