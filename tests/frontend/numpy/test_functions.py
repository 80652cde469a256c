"""Every function of the table on many arguments, against NumPy itself."""

from __future__ import annotations

import numpy as np
import pytest
from cases import ARRAYS, CASES, arguments
from same_as_numpy import Run, against_numpy

# results that rounding reaches: zeros may come out with the other sign
LOOSE = ("gradient", "unwrap", "interp", "i0", "std", "var", "linspace", "linear_ramp", "kron",
         "cross", "cov", "round", "percentile", "quantile")


@pytest.mark.parametrize("expression", CASES)
def test_function(run: Run, expression: str) -> None:
    names = arguments(expression)
    fn = eval(f"lambda {', '.join(names)}: ({expression})", {"np": np})
    against_numpy(run, fn, *(ARRAYS[n] for n in names),
                  signs=not any(word in expression for word in LOOSE))
