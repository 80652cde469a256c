"""fmod, remainder and floor_divide of floats, exactly as NumPy has them.

With n = trunc(|x / y|), |x| - n |y| is exact by one FMA (or a pair of products) as long as n fits
the mantissa; n may be one too large from rounding the quotient, which shows in the sign. Lanes with
larger quotients go to libm's fmod.
"""

from __future__ import annotations

from weft.devices.cpu.emit import Emitter, Val
from weft.devices.cpu.math.rare import libm_where
from weft.devices.cpu.math.tools import (
    absolute,
    copysign,
    floor,
    format_of,
    pair_product,
    same,
    truncate,
)

__all__ = ["floor_divide", "fmod", "remainder"]


def fmod(e: Emitter, x: Val, y: Val) -> Val:
    """x - y trunc(x / y), exact, with the sign of x."""
    x, y = same(e, x, y)
    a, b = absolute(e, x), absolute(e, y)
    quotient = a / b
    n = truncate(e, quotient)
    far = quotient >= 2.0 ** format_of(x).mantissa
    if e.target.has_fma:
        r = e.fma(-n, b, a)
    elif x.dtype == "f32":
        r = e.convert(e.convert(a, "f64") - e.convert(n, "f64") * e.convert(b, "f64"), "f32")
    else:
        far = far | (b > 2.0 ** 990) | (b < 2.0 ** -900)     # the split products must stay in range
        high, low = pair_product(e, n, b)
        r = (a - high) - low
    r = e.select(r < 0.0, r + b, r)
    r = copysign(e, e.select(a < b, a, r), x)                # also where y is infinite
    return libm_where(e, "fmod", far, r, x, y)


def _adjust(e: Emitter, mod: Val, y: Val) -> Val:
    """Where a nonzero fmod has not the sign of y."""
    return mod.ne(0.0) & ((y < 0.0) ^ (mod < 0.0))


def remainder(e: Emitter, x: Val, y: Val) -> Val:
    """x - y floor(x / y), with the sign of y (Python's %)."""
    x, y = same(e, x, y)
    mod = fmod(e, x, y)
    result = e.select(_adjust(e, mod, y), mod + y, mod)
    return e.select(mod.eq(0.0), copysign(e, mod, y), result)


def floor_divide(e: Emitter, x: Val, y: Val) -> Val:
    """floor(x / y) as npy_divmod computes it: from (x - fmod) / y, which is nearly an integer."""
    x, y = same(e, x, y)
    mod = fmod(e, x, y)
    quotient = (x - mod) / y
    quotient = e.select(_adjust(e, mod, y), quotient - 1.0, quotient)
    down = floor(e, quotient)
    whole = e.select(quotient - down > 0.5, down + 1.0, down)
    whole = e.select(quotient.eq(0.0), copysign(e, e.like(x, 0.0), x / y), whole)
    return e.select(y.eq(0.0), x / y, whole)
