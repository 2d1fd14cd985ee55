# What a program of data scientists does first.
import numpy
import pandas

print(numpy.__version__, pandas.__version__)
