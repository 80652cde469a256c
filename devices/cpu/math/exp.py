"""exp, exp2, expm1 and the logistic function.

All write x = n ln 2 + r with n an integer and |r| <= ln(2)/2 (Cody and Waite: ln 2 in two parts, of
which the first times n is exact), take a minimax polynomial in r, and scale by 2^n through the
exponent bits. `fit.py` fitted the polynomials.
"""

from __future__ import annotations

from weft.devices.cpu.emit import Emitter, Val
from weft.devices.cpu.math.lookup import has_avx512, scale_by
from weft.devices.cpu.math.tools import (
    absolute,
    at_least,
    at_most,
    bits,
    format_of,
    horner,
    pair_sum,
    power_of_two,
    real,
    round_shifted,
)

__all__ = ["exp", "exp2", "exp2_pair", "exp_pair", "expm1", "expm1_parts", "logistic",
           "reduce_exp", "scaled", "scaled_down"]

LOG2_E = 1.4426950408889634
# ln 2 in two parts; the first has so few bits that its product with any n here is exact.
LN2 = {"f32": (0.693359375, -2.12194440054690583e-4),
       "f64": (6.93147180369123816490e-01, 1.90821492927058770002e-10)}
# (e^r - 1 - r) / r^2 on |r| <= 0.3466: 2^-26.1 and 2^-55.1 relative to e^r - 1.
EXP = {
    "f32": (0.4999999701976776, 0.16666539013385773, 0.04166775569319725, 0.008367125876247883,
            0.0013835596619173884),
    "f64": (0.5000000000000006, 0.16666666666666588, 0.04166666666657103, 0.008333333333389236,
            0.0013888888933783789, 0.00019841269724382197, 2.480150247023713e-05,
            2.755739789161611e-06, 2.76271705724144e-07, 2.505844652567811e-08)}
# (2^f - 1) / f on |f| <= 0.5: 2^-27.2 and 2^-57.3 relative to 1.
EXP2 = {
    "f32": (0.6931471824645996, 0.24022650718688965, 0.05550374463200569, 0.009618086740374565,
            0.0013384055346250534, 0.00015451836225111037),
    "f64": (0.6931471805599453, 0.24022650695910136, 0.05550410866482411, 0.009618129107592188,
            0.001333355814578613, 0.00015403530459057725, 1.525273443693698e-05,
            1.3215434591094265e-06, 1.0177815068933605e-07, 7.0738597124213685e-09,
            4.4909390018768697e-10)}
# Beyond these x the results of exp (of exp2) are inf and 0; short of them n is small enough.
EXP_RANGE = {"f32": (-104.0, 89.0), "f64": (-746.0, 710.0)}
EXP2_RANGE = {"f32": (-151.0, 129.0), "f64": (-1076.0, 1025.0)}


def reduce_exp(e: Emitter, x: Val, offset: float) -> tuple[Val, Val]:
    """z (with n + offset in its low bits, n = rint(x / ln 2)) and r = x - n ln 2."""
    hi, lo = LN2[x.dtype]
    z, n = round_shifted(e, x, LOG2_E, offset)
    return z, e.fma(n, -lo, e.fma(n, -hi, x))


def scaled(e: Emitter, y: Val, z: Val, positive: Val) -> Val:
    """y 2^n, overflowing and underflowing gradually; z holds n + 2 bias, `positive` says n > 0.

    y is multiplied by 2^n / c and then by c, which is 2^64 (in f32) or its inverse by the sign of
    n: the first product is always normal and exact, the second rounds where it must. AVX-512 has
    an instruction for it.
    """
    if has_avx512(e):
        return _scaled_at_once(e, y, z)
    half = 2.0 ** (format_of(y).bias // 2 + 1)
    c = e.select(positive, e.like(y, half), 1 / half)
    return y * _over(e, z, c) * c


def scaled_down(e: Emitter, y: Val, z: Val) -> Val:
    """`scaled` for n <= 0."""
    if has_avx512(e):
        return _scaled_at_once(e, y, z)
    c = e.like(y, 2.0 ** -(format_of(y).bias // 2 + 1))
    return y * _over(e, z, c) * c


def _scaled_at_once(e: Emitter, y: Val, z: Val) -> Val:
    """y 2^n, z holding n + 2 bias."""
    fmt = format_of(z)
    return scale_by(e, y, z - (fmt.shifter + 2.0 * fmt.bias))


def _over(e: Emitter, z: Val, c: Val) -> Val:
    """2^n / c, z holding n + 2 bias."""
    return real(e, (bits(e, z) << format_of(z).mantissa) - bits(e, c))


def exp(e: Emitter, x: Val) -> Val:
    """e^x. Error seen: 1.2 ULP (f32), 1.1 (f64)."""
    lo, hi = EXP_RANGE[x.dtype]
    x = at_least(e, at_most(e, x, hi), lo)
    z, r = reduce_exp(e, x, 2.0 * format_of(x).bias)
    return scaled(e, horner(e, r, (1.0, 1.0, *EXP[x.dtype])), z, x > 0.0)


def exp2(e: Emitter, x: Val) -> Val:
    """2^x. Error seen: 1.2 ULP (f32), 1.1 (f64)."""
    lo, hi = EXP2_RANGE[x.dtype]
    x = at_least(e, at_most(e, x, hi), lo)
    z, n = round_shifted(e, x, 1.0, 2.0 * format_of(x).bias)
    return scaled(e, horner(e, x - n, (1.0, *EXP2[x.dtype])), z, x > 0.0)


def expm1_parts(e: Emitter, x: Val) -> tuple[Val, Val]:
    """s = 2^n and p = e^r - 1, so that e^x = s + s p; for x where 2^n is normal."""
    z, r = reduce_exp(e, x, format_of(x).bias)
    return power_of_two(e, z), e.fma(horner(e, r, EXP[x.dtype]), r * r, r)


def expm1(e: Emitter, x: Val) -> Val:
    """e^x - 1, by (2^n - 1) + 2^n (e^r - 1). Error seen: 1.7 ULP (f32), 1.7 (f64)."""
    fmt = format_of(x)
    # A quarter of the result is computed, so that 2^n cannot overflow before the result does.
    y = at_least(e, at_most(e, x, EXP_RANGE[x.dtype][1]), -fmt.mantissa - 10.0)
    z, r = reduce_exp(e, y, fmt.bias - 2.0)
    s = power_of_two(e, z)
    p = e.fma(horner(e, r, EXP[x.dtype]), r * r, r)
    result = e.fma(s, p, s - 0.25) * 4.0
    tiny = absolute(e, x) < 2.0 ** (-fmt.mantissa - 2)      # keeps -0 and subnormals as they are
    return e.select(tiny, x, result)


def exp_pair(e: Emitter, x: Val) -> tuple[Val, Val]:
    """e^x, and what rounding it left, for x <= 0."""
    z, r = reduce_exp(e, at_least(e, x, EXP_RANGE[x.dtype][0]), 2.0 * format_of(x).bias)
    p = e.fma(horner(e, r, EXP[x.dtype]), r * r, r)
    y, rest = pair_sum(e.like(p, 1.0), p)
    return scaled_down(e, y, z), scaled_down(e, rest, z)


def exp2_pair(e: Emitter, x: Val) -> tuple[Val, Val]:
    """2^x, and what rounding it left, for x <= 0."""
    x = at_least(e, x, EXP2_RANGE[x.dtype][0])
    z, n = round_shifted(e, x, 1.0, 2.0 * format_of(x).bias)
    f = x - n
    y, rest = pair_sum(e.like(f, 1.0), horner(e, f, EXP2[x.dtype]) * f)
    return scaled_down(e, y, z), scaled_down(e, rest, z)


def logistic(e: Emitter, x: Val) -> Val:
    """1 / (1 + e^-x), from u = e^-|x| and q = u / (1 + u): q for negative x, else 1 - q.

    Error seen: 1.5 ULP (f32), 1.1 (f64).
    """
    u, rest = exp_pair(e, -absolute(e, x))
    d = u + 1.0
    q = u / d
    # What rounding u and d left, times 1 / d = 1 - q.
    q = e.fma(q - 1.0, e.fma(q, (u - (d - 1.0)) + rest, -rest), q)
    return e.select(x < 0.0, q, 1.0 - q)
