"""`weft.numpy`: NumPy's names for use on arrays and tracers alike; see `weft.frontend.numpy`."""

import sys

import weft.frontend.numpy

sys.modules[__name__] = weft.frontend.numpy
