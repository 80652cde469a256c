"""asin, acos, atan and atan2, on two odd polynomials fitted by `fit.py`.

asin is a polynomial up to |x| = 1/2, and above it pi/2 - 2 asin(sqrt((1 - |x|) / 2)); atan is one
up to |x| = 1, and above it pi/2 - atan(1 / |x|).
"""

from __future__ import annotations

from weft.devices.cpu.emit import Emitter, Val
from weft.devices.cpu.math.tools import (
    absolute,
    bits,
    copysign,
    format_of,
    horner,
    pair_sum,
    real,
    same,
)

__all__ = ["acos", "asin", "atan", "atan2"]

# (asin(s) / s - 1) / s^2 in s^2, |s| <= 1/2: 2^-27.5 and 2^-55.8 relative to asin(s) / s.
ASIN = {
    "f32": (0.16666753590106964, 0.07495232671499252, 0.04548003152012825, 0.024127844721078873,
            0.04225755110383034),
    "f64": (0.16666666666665375, 0.07500000000344857, 0.04464285682193677, 0.03038195939680352,
            0.02237175191241843, 0.01735979594492435, 0.013884348057965103, 0.012174955288963703,
            0.006503472632220599, 0.019594453713247716, -0.016326846961821167,
            0.03198178251458738)}
# (atan(q) / q - 1) / q^2 in q^2, |q| <= 1: 2^-28.2 and 2^-56.4 relative to atan(q) / q.
ATAN = {
    "f32": (-0.33333298563957214, 0.19998547434806824, -0.14264240860939026, 0.10952179878950119,
            -0.08403434604406357, 0.05795735865831375, -0.031177589669823647,
            0.010914433747529984, -0.0017935745418071747),
    "f64": (-0.33333333333333287, 0.1999999999999045, -0.14285714285036785, 0.11111111086452191,
            -0.09090908547347024, 0.07692299712927732, -0.06666583732918378, 0.05881716219036653,
            -0.05259434103466524, 0.04744927290077792, -0.04286394329758648, 0.0382101419223766,
            -0.03278556950306762, 0.026151868036590312, -0.01861442592405321,
            0.01131784948374726, -0.005612519746627578, 0.0021516525371609294,
            -0.0005929149170278637, 0.00010387637850793821, -8.65463640017216e-06)}
# pi/2 rounded, and the rest.
HALF_PI = {"f32": (1.5707963705062866, -4.371139e-08),
           "f64": (1.5707963267948966, 6.123233995736766e-17)}


def _asin_parts(e: Emitter, a: Val) -> tuple[Val, Val, Val]:
    """Of a = |x|: is it above 1/2; s, and asin(s) - s, for s = sqrt((1 - a) / 2) there, else a."""
    large = a > 0.5
    half = e.fma(a, -0.5, 0.5)
    z = e.select(large, half, a * a)
    s = e.select(large, e.intrinsic("sqrt", half), a)
    return large, s, horner(e, z, ASIN[a.dtype]) * z * s


def asin(e: Emitter, x: Val) -> Val:
    """The arcsine; NaN beyond [-1, 1]. Error seen: 1.2 ULP (f32), 1.2 (f64)."""
    large, s, t = _asin_parts(e, absolute(e, x))
    hi, lo = HALF_PI[x.dtype]
    head, rest = pair_sum(e.like(s, hi), s * -2.0)
    above = head + (rest + (lo - (t + t)))
    return copysign(e, e.select(large, above, s + t), x)


def acos(e: Emitter, x: Val) -> Val:
    """The arccosine; NaN beyond [-1, 1]. Small x: pi/2 - asin x; large: 2 asin s or pi - 2 asin s.

    Error seen: 1.2 ULP (f32), 1.2 (f64).
    """
    large, s, t = _asin_parts(e, absolute(e, x))
    fmt = format_of(x)
    hi, lo = HALF_PI[x.dtype]
    # One sum (base + u) + (base' + v) serves all: u = -+s or +-2 s, base = 0, pi/2 or pi.
    twice = e.select(large, e.like(x, 2.0), -1.0)
    flip = bits(e, x) & fmt.sign_bit
    factor = real(e, bits(e, twice) ^ flip)
    positive_large = e.select(x > 0.5, e.like(x, 0.0), 1.0)
    base = e.select(x < -0.5, e.like(x, 2 * hi), positive_large * hi)
    rest = e.select(x < -0.5, e.like(x, 2 * lo), positive_large * lo)
    return e.fma(factor, s, base) + e.fma(factor, t, rest)


def _atan_poly(e: Emitter, q: Val) -> Val:
    """atan(q) - q, for 0 <= q <= 1."""
    z = q * q
    return horner(e, z, ATAN[q.dtype]) * z * q


def atan(e: Emitter, x: Val) -> Val:
    """The arctangent. Error seen: 1.3 ULP (f32), 1.2 (f64)."""
    a = absolute(e, x)
    large = a > 1.0
    q = e.select(large, 1.0 / a, a)
    t = _atan_poly(e, q)
    hi, lo = HALF_PI[x.dtype]
    return copysign(e, e.select(large, (hi - q) + (lo - t), q + t), x)


def atan2(e: Emitter, y: Val, x: Val) -> Val:
    """The angle of the point (x, y), as C99's atan2 for zeros and infinities.

    Error seen: 1.5 ULP (f32), 1.5 (f64).
    """
    y, x = same(e, y, x)
    ay, ax = absolute(e, y), absolute(e, x)
    steep = ay > ax
    low, high = e.select(steep, ax, ay), e.select(steep, ay, ax)
    q = low / high
    q = e.select(low.eq(high), 1.0, q)            # inf / inf
    q = e.select(high.eq(0.0), 0.0, q)            # 0 / 0
    t = _atan_poly(e, q)
    hi, lo = HALF_PI[x.dtype]
    # The angle is base + factor * (q + t) with base in 0, pi/2, pi by octant.
    left = (bits(e, x) < 0)
    negate = left ^ steep
    factor = e.select(negate, e.like(q, -1.0), 1.0)
    quarters = e.select(steep, e.like(q, 1.0), e.select(left, e.like(q, 2.0), 0.0))
    angle = e.fma(quarters, hi, factor * q) + e.fma(quarters, lo, factor * t)
    return copysign(e, e.select(e.unordered(x, y), x + y, angle), y)
