# Waves of numpy arrays of 1 to 6 MiB, of which none is kept.
import numpy

MIB = 1 << 20
WAVES = 60


def wave():
    arrays = [numpy.ones(mib * MIB, dtype=numpy.uint8) for mib in range(1, 7)]
    return sum(int(array[-1]) for array in arrays)


for _ in range(WAVES):
    wave()
