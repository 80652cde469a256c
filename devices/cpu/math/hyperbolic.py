"""sinh, cosh and tanh, on the reduction and polynomials of exp.

With |x| = n ln 2 + r, sinh and cosh are the sums of
    sinh|x| = S cosh r + C sinh r,    cosh|x| = C cosh r + S sinh r,
S and C being (2^n -+ 2^-n) / 2: no large numbers cancel, and no quotient is rounded. tanh is
(p + q) / (p + q + 2) for e^2|x| - 1 = p + q.
"""

from __future__ import annotations

from weft.devices.cpu.emit import Emitter, Val
from weft.devices.cpu.math.exp import EXP, reduce_exp
from weft.devices.cpu.math.tools import (
    absolute,
    at_most,
    copysign,
    format_of,
    horner,
    pair_sum,
    power_of_two,
)

__all__ = ["cosh", "sinh", "tanh"]

# (sinh(r) / r - 1) / r^2 and (cosh(r) - 1) / r^2 in r^2, |r| <= 0.3466: 2^-33 in f32, 2^-57 in f64.
SINH = {"f32": (0.1666666716337204, 0.00833317544311285, 0.00019974166934844106),
        "f64": (0.16666666666666677, 0.008333333333321208, 0.0001984126988776709,
                2.755724202458618e-06, 2.5109965824555343e-08)}
COSH = {"f32": (0.5, 0.041666459292173386, 0.0013935426250100136),
        "f64": (0.5000000000000013, 0.04166666666650811, 0.0013888888949607598,
                2.4801486632090925e-05, 2.7632655273428114e-07)}
TOP = {"f32": 90.0, "f64": 711.0}              # beyond, sinh and cosh overflow
TANH_TOP = {"f32": 20.0, "f64": 40.0}          # of 2|x|: beyond, tanh rounds to 1


def _parts(e: Emitter, a: Val) -> tuple[Val, Val, Val, Val]:
    """(2^n - 2^-n) / 8, (2^n + 2^-n) / 8, sinh r and cosh r - 1, of a = n ln 2 + r >= 0."""
    fmt = format_of(a)
    z, r = reduce_exp(e, at_most(e, a, TOP[a.dtype]), fmt.bias - 3.0)
    up = power_of_two(e, z)                      # an eighth of 2^n, which itself might overflow
    down = e.like(a, 1 / 64) / up
    z = r * r
    return (up - down, up + down, e.fma(horner(e, z, SINH[a.dtype]), z * r, r),
            z * horner(e, z, COSH[a.dtype]))


def sinh(e: Emitter, x: Val) -> Val:
    """The hyperbolic sine. Error seen: 1.9 ULP (f32), 1.5 (f64)."""
    a = absolute(e, x)
    s, c, sinh_r, cosh_r1 = _parts(e, a)
    y = (s + e.fma(s, cosh_r1, c * sinh_r)) * 4.0
    tiny = a < 2.0 ** (-format_of(x).mantissa // 2 - 2)    # subnormals would lose bits on the way
    return copysign(e, e.select(tiny, a, y), x)


def cosh(e: Emitter, x: Val) -> Val:
    """The hyperbolic cosine. Error seen: 1.9 ULP (f32), 1.1 (f64)."""
    s, c, sinh_r, cosh_r1 = _parts(e, absolute(e, x))
    return (c + e.fma(c, cosh_r1, s * sinh_r)) * 4.0


def tanh(e: Emitter, x: Val) -> Val:
    """The hyperbolic tangent. Error seen: 1.9 ULP (f32), 1.4 (f64)."""
    a = absolute(e, x)
    z, r = reduce_exp(e, at_most(e, a + a, TANH_TOP[x.dtype]), format_of(x).bias)
    s = power_of_two(e, z)
    p, rest = pair_sum(r, horner(e, r, EXP[x.dtype]) * (r * r))
    rest = s * rest
    m = e.fma(s, p, s - 1.0)
    d = m + 2.0
    t = m / d
    # What rounding p and d left, times 1 / d = (1 - t) / 2.
    t = e.fma(e.fma(t, 0.5, -0.5), e.fma(t, (m - (d - 2.0)) + rest, -rest), t)
    return copysign(e, at_most(e, t, 1.0), x)
