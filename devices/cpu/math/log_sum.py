"""logaddexp and logaddexp2.

Like NumPy's they add a logarithm to the larger argument, in float32 by way of float64. In float64,
where that sum cancels (the result is much smaller than the arguments), the error is small beside
the arguments, not beside the result.
"""

from __future__ import annotations

from weft.devices.cpu.emit import Emitter, Val
from weft.devices.cpu.math.exp import exp2_pair, exp_pair
from weft.devices.cpu.math.log import log1p, log2_of, split_1p
from weft.devices.cpu.math.tools import absolute, same

__all__ = ["logaddexp", "logaddexp2"]


def _larger_and_distance(e: Emitter, x: Val, y: Val) -> tuple[Val, Val]:
    """max(x, y) and -|x - y| (0 for equal infinities); NaN in either gives NaN in the second."""
    distance = e.select(x.eq(y), 0.0, -absolute(e, x - y))
    return e.select(x > y, x, y), distance


def logaddexp(e: Emitter, x: Val, y: Val) -> Val:
    """log(e^x + e^y)."""
    x, y = same(e, x, y)
    if x.dtype == "f32":
        return e.convert(logaddexp(e, e.convert(x, "f64"), e.convert(y, "f64")), "f32")
    larger, distance = _larger_and_distance(e, x, y)
    return larger + log1p(e, *exp_pair(e, distance))


def logaddexp2(e: Emitter, x: Val, y: Val) -> Val:
    """log2(2^x + 2^y)."""
    x, y = same(e, x, y)
    if x.dtype == "f32":
        return e.convert(logaddexp2(e, e.convert(x, "f64"), e.convert(y, "f64")), "f32")
    larger, distance = _larger_and_distance(e, x, y)
    return larger + log2_of(e, *split_1p(e, *exp2_pair(e, distance)))
