"""asinh, acosh and atanh, as log1p of arguments formed without cancellation.

The rounding error of an argument is carried into log1p, which takes a rest for that.
"""

from __future__ import annotations

import math

from weft.devices.cpu.emit import Emitter, Val
from weft.devices.cpu.math.log import log1p
from weft.devices.cpu.math.tools import absolute, copysign, format_of, pair_sum

__all__ = ["acosh", "asinh", "atanh"]

LN2 = 0.6931471805599453


def _log1p_or_double(e: Emitter, a: Val, t: Val, rest: Val) -> Val:
    """log1p(t + rest), or log(2 a) where a is so large that its square might overflow."""
    large = a > 2.0 ** (format_of(a).mantissa + 2)
    y = log1p(e, e.select(large, a, t), e.select(large, 0.0, rest))
    return y + e.select(large, e.like(a, LN2), 0.0)


def asinh(e: Emitter, x: Val) -> Val:
    """The inverse hyperbolic sine: log1p(a + a^2 / (1 + sqrt(1 + a^2))) of a = |x|.

    Error seen: 1.9 ULP (f32), 1.5 (f64).
    """
    a = absolute(e, x)
    square = a * a
    t, rest = pair_sum(a, square / (e.intrinsic("sqrt", square + 1.0) + 1.0))
    return copysign(e, _log1p_or_double(e, a, t, rest), x)


def acosh(e: Emitter, x: Val) -> Val:
    """The inverse hyperbolic cosine: log1p(u + sqrt(u (u + 2))) of u = x - 1; NaN below 1.

    Error seen: 1.95 ULP (f32), 1.7 (f64).
    """
    u = x - 1.0
    t, rest = pair_sum(e.intrinsic("sqrt", e.fma(u, u, u + u)), u)
    y = _log1p_or_double(e, x, t, rest)
    return e.select(x < 1.0, math.nan, y)


def atanh(e: Emitter, x: Val) -> Val:
    """The inverse hyperbolic tangent: log1p(2a + 2a a / (1 - a)) / 2 of a = |x|.

    Error seen: 1.9 ULP (f32), 1.6 (f64).
    """
    a = absolute(e, x)
    twice = a + a
    t, rest = pair_sum(twice, twice * a / (1.0 - a))
    y = copysign(e, log1p(e, t, rest) * 0.5, x)
    return e.select(a > 1.0, math.nan, y)
