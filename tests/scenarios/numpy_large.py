# numpy advises the kernel of huge pages inside large arrays, which splits their mappings.
# pythons: 3.11
# findings: live_objects 64-90
import numpy

array = numpy.ones(8 << 20)
wait()
