"""sin, cos and tan.

x = n pi/2 + r with |r| <= pi/4, by Cody and Waite: exact by FMA, or by short parts of pi. sin and
cos take both polynomials of r, and the low bits of n pick one and its sign; tan takes one odd
polynomial, of which an odd n wants -1 / tan. Where any lane is too large for this reduction, a
helper function (one a module, off the straight path) reduces those lanes.
"""

from __future__ import annotations

from weft.devices.cpu.emit import Emitter, Val
from weft.devices.cpu.math.payne_hanek import reduce_far
from weft.devices.cpu.math.tools import (
    absolute,
    bits,
    format_of,
    horner,
    pair_sum,
    real,
    round_shifted,
)

__all__ = ["cos", "sin", "tan"]

# (sin(r) / r - 1) / r^2 and (cos(r) - 1) / r^2 in r^2, |r| <= pi/4 (1.5 % more in f32):
# 2^-27.9 and 2^-57.9 relative to sin(r), 2^-33 and 2^-63 relative to 1.
SIN = {
    "f32": (-0.16666653752326965, 0.008332101628184319, -0.00019506795797497034),
    "f64": (-0.16666666666666632, 0.008333333333322415, -0.00019841269829784627,
            2.755731368014346e-06, -2.5050755906483617e-08, 1.5896651067248753e-10)}
COS = {
    "f32": (-0.5, 0.04166664555668831, -0.0013887295499444008, 2.4429540644632652e-05),
    "f64": (-0.5, 0.04166666666666663, -0.0013888888888879413, 2.4801587292806372e-05,
            -2.755731531350225e-07, 2.087585341608936e-09, -1.1366334264358795e-11)}
# (tan(r) / r - 1) / r^2 in r^2, |r| <= pi/4 (1.5 % more in f32): 2^-28.4 and 2^-55.7.
TAN = {
    "f32": (0.3333335518836975, 0.1333242952823639, 0.05408816784620285, 0.02113310806453228,
            0.011225065216422081, -0.0004050424904562533, 0.0046204086393117905),
    "f64": (0.33333333333332715, 0.13333333333422795, 0.053968253922999976, 0.021869489691900224,
            0.008863218059320648, 0.003592298540558034, 0.001454703248672379,
            0.000595284520845986, 0.00022175951948228588, 0.00013775164002638628,
            -2.8048088079062036e-05, 9.092384802499239e-05, -4.564313302416274e-05,
            2.1041428558897334e-05)}
# pi/2 in parts: of full length for FMA; of 33 bits first, so that n times them is exact, without.
# Without FMA float32 is reduced in float64.
PI_FMA = {"f32": (1.5707963705062866, -4.371138828673793e-08, -1.7151245100058819e-15),
          "f64": (1.5707963267948966, 6.123233995736766e-17, -1.4973849048591698e-33)}
PI_SHORT = {"f32": (1.5707963267341256, 6.077100506506192e-11),
            "f64": (1.5707963267341256, 6.077100506303966e-11, 2.0222662487959506e-21)}
# Greatest |x| reduced here, with FMA and without.
FAR = {"f32": (5e4, 5e4), "f64": (2.0 ** 30, 1e6)}
TWO_OVER_PI = 0.6366197723675814


def _reduce(e: Emitter, x: Val, n: Val) -> Val:
    """x - n pi/2, to half a ULP."""
    if not e.target.has_fma:
        return _reduce_pair(e, x, n)[0]
    for part in PI_FMA[x.dtype]:
        x = e.fma(n, -part, x)
    return x


def _reduce_pair(e: Emitter, x: Val, n: Val) -> tuple[Val, Val]:
    """x - n pi/2 and what its rounding left."""
    if x.dtype == "f32" and not e.target.has_fma:
        a, b = PI_SHORT["f32"]
        wide, n = e.convert(x, "f64"), e.convert(n, "f64")
        wide = (wide - n * a) - n * b
        r = e.convert(wide, "f32")
        return r, e.convert(wide - e.convert(r, "f64"), "f32")
    a, b, c = (PI_FMA if e.target.has_fma else PI_SHORT)[x.dtype]
    exact, w = e.fma(n, -a, x), n * b
    r = exact - w
    w_rest = n * c
    if e.target.has_fma:
        w_rest = e.fma(n, b, -w) + w_rest
    rest = ((exact - r) - w) - w_rest
    return pair_sum(r, rest)


def _sin_cos(e: Emitter, x: Val, quarter: int) -> Val:
    """sin(|x| + quarter pi/2), for quarter 0 or 1, with the sign of x if it is 0."""
    fmt = format_of(x)
    a = absolute(e, x)
    z, n = round_shifted(e, a, TWO_OVER_PI)
    turn, r = reduce_far(e, _far(e, a), a, (bits(e, z), _reduce(e, a, n)))
    r2 = r * r
    s = e.fma(horner(e, r2, SIN[x.dtype]), r2 * r, r)
    c = horner(e, r2, (1.0, *COS[x.dtype]))
    turn = turn + quarter if quarter else turn
    flip = turn << (fmt.width - 2)
    if quarter == 0:
        flip = flip ^ bits(e, x)
    return real(e, bits(e, e.select((turn & 1).ne(0), c, s)) ^ (flip & fmt.sign_bit))


def _far(e: Emitter, a: Val) -> Val:
    """Where a is beyond the range of the straight reduction."""
    return a > FAR[a.dtype][not e.target.has_fma]


def sin(e: Emitter, x: Val) -> Val:
    """The sine of x in radians. Error seen: 1.6 ULP (f32), 1.4 (f64)."""
    return _sin_cos(e, x, 0)


def cos(e: Emitter, x: Val) -> Val:
    """The cosine of x in radians. Error seen: 1.6 ULP (f32), 1.4 (f64)."""
    return _sin_cos(e, x, 1)


def tan(e: Emitter, x: Val) -> Val:
    """The tangent of x in radians. Error seen: 1.9 ULP (f32), 1.5 (f64)."""
    a = absolute(e, x)
    z, n = round_shifted(e, a, TWO_OVER_PI)
    turn, r, rest = reduce_far(e, _far(e, a), a, (bits(e, z), *_reduce_pair(e, a, n)))
    r2 = r * r
    t = r + e.fma(horner(e, r2, TAN[x.dtype]), r2 * r, e.fma(rest, r2, rest))
    odd = (turn & 1).ne(0)
    t = e.select(odd, e.like(t, -1.0), t) / e.select(odd, t, 1.0)
    return real(e, bits(e, t) ^ (bits(e, x) & format_of(x).sign_bit))
