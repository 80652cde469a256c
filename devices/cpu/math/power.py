"""pow, cbrt and hypot.

pow is exp2(y log2 x). In float64 the logarithm and its product with y are kept as unevaluated pairs
of floats, good to 2^-65 and better; in float32 they are taken in float64. With AVX-512, pow and
cbrt are others, begun by tables.
"""

from __future__ import annotations

import math

from weft.devices.cpu.emit import Emitter, Val
from weft.devices.cpu.math.cbrt_by_table import cbrt_by_table
from weft.devices.cpu.math.exp import EXP2, scaled
from weft.devices.cpu.math.log import split
from weft.devices.cpu.math.lookup import has_avx512
from weft.devices.cpu.math.power_by_table import pow_by_table, with_sign
from weft.devices.cpu.math.tools import (
    absolute,
    at_least,
    at_most,
    bits,
    copysign,
    format_of,
    horner,
    pair_product,
    pair_sum,
    power_of_two,
    real,
    round_shifted,
    same,
)

__all__ = ["cbrt", "hypot", "pow"]

# log2(1 + f) = s (C0 + z (C1 + z Q(z))), s = f / (2 + f), z = s^2. C0 and C1 in two parts.
C0 = (2.8853900817779268, 4.0710547481862066e-17)
C1 = (0.9617966939259756, 5.0577616648125907e-17)
Q = (0.5770780163556182, 0.41219858309180984, 0.3205989022980188, 0.26230769877965954,
     0.22198412249155386, 0.19125172662586684, 0.1904231503681999)
# The same for float32, C1 + z Q(z) in one: 2^-44.9 relative.
Q32 = (0.9617966940586301, 0.5770779528613076, 0.41220844022671915, 0.3199330463890631,
       0.28256616952145414)
# m^(-1/3) on [0.35, 2.84], 2^-7.1: where the iteration of cbrt starts.
INVERSE_CBRT = (1.8939595222473145, -1.7686915397644043, 1.2313578128814697, -0.4163471460342407,
                0.052967146039009094)


def pow(e: Emitter, x: Val, y: Val) -> Val:
    """x to the power y, with the special values of C99's Annex F.

    Error seen: 1.2 ULP (f32), 1.1 (f64).
    """
    x, y = same(e, x, y)
    if has_avx512(e):
        return pow_by_table(e, x, y)
    a = absolute(e, x)
    # y log2|x| must be 0, not NaN, where the power is 1 whatever the other argument.
    one = x.eq(1.0) | y.eq(0.0)
    r = (_pow32 if x.dtype == "f32" else _pow64)(e, a, y, one)
    return with_sign(e, x, y, r)


def _pow32(e: Emitter, a: Val, y: Val, one: Val) -> Val:
    """a^y for a >= 0 in float32. Only the logarithm and the product are taken in float64."""
    k, f = split(e, a)
    k = e.select(one, 0.0, _log_special(e, a, k))
    y = e.select(one, 0.0, at_least(e, at_most(e, y, 2.0 ** 100), -(2.0 ** 100)))
    wide = e.convert(f, "f64")
    s = wide / (wide + 2.0)
    z = s * s
    t = e.fma(s, horner(e, z, (C0[0], *Q32)), e.convert(k, "f64")) * e.convert(y, "f64")
    t = at_least(e, at_most(e, t, 152.0), -152.0)
    _, n = round_shifted(e, t, 1.0)
    p = horner(e, e.convert(t - n, "f32"), (1.0, *EXP2["f32"]))
    n = e.convert(n, "f32")
    fmt = format_of(a)
    return scaled(e, p, n + (fmt.shifter + 2 * fmt.bias), n > 0.0)


def _log_special(e: Emitter, a: Val, log: Val) -> Val:
    """The logarithm (or its integer part) of a >= 0: -inf at 0, a itself at inf and NaN."""
    return e.select(a.eq(0.0), -math.inf, e.select(a < math.inf, log, a))


def _pow64(e: Emitter, a: Val, y: Val, one: Val) -> Val:
    """a^y for a >= 0 in float64."""
    log, log_rest = _log2_pair(e, a)
    log = _log_special(e, a, log)
    # Kept from infinity, y makes no NaN; all powers but those of 1 are 0 or inf already.
    y = at_least(e, at_most(e, y, 2.0 ** 900), -(2.0 ** 900))
    high, low = pair_product(e, log, y)
    low = low + log_rest * y
    # Out of range (or not finite) the rest means nothing.
    t = at_least(e, at_most(e, e.select(one, 0.0, high), 1100.0), -1100.0)
    low = e.select(absolute(e, high) < 1100.0, low, 0.0)
    z, n = round_shifted(e, t, 1.0, 2.0 * 1023)
    p = horner(e, (t - n) + low, (1.0, *EXP2["f64"]))
    return scaled(e, p, z, t > 0.0)


def _log2_pair(e: Emitter, a: Val) -> tuple[Val, Val]:
    """log2(a) as a pair, for a > 0 and finite."""
    k, f = split(e, a)
    d = f + 2.0
    d_rest = f - (d - 2.0)
    inverse = 1.0 / d
    s = f * inverse
    back, back_rest = pair_product(e, s, d)
    s_rest = ((f - back) - back_rest - s * d_rest) * inverse
    z, z_rest = pair_product(e, s, s)
    z_rest = e.fma(s + s, s_rest, z_rest)
    c, c_rest = pair_sum(e.like(z, C1[0]), z * horner(e, z, Q))
    t, t_rest = pair_product(e, z, c)
    t_rest = t_rest + e.fma(z, c_rest + C1[1], z_rest * c)
    b, b_rest = pair_sum(e.like(t, C0[0]), t)
    log, log_rest = pair_product(e, s, b)
    log_rest = log_rest + e.fma(s, b_rest + (t_rest + C0[1]), s_rest * b)
    total, total_rest = pair_sum(k, log)
    # pair_sum orders |k| >= |log|, which holds unless k = 0, where it is exact too.
    return pair_sum(total, total_rest + log_rest)


def cbrt(e: Emitter, x: Val) -> Val:
    """The cube root: two (float32: one) of Halley's iterations for m^(-1/3), then one of Newton's.

    x = 2^3n m with 0.35 <= m < 2.83.
    Error seen: 1.0 ULP (f32), 1.0 (f64).
    """
    if has_avx512(e):
        return cbrt_by_table(e, x)
    a = absolute(e, x)
    fmt = format_of(x)
    k, f = split(e, a)
    z, n = round_shifted(e, k, 1 / 3, fmt.bias)
    # 2^(k - 3n), k - 3n = -1, 0 or 1, from the integers in the low bits of the shifted floats.
    turn = e.fma(n, -3.0, k) + (fmt.shifter + fmt.bias)
    m = (f + 1.0) * power_of_two(e, turn)
    y = horner(e, m, INVERSE_CBRT)
    for _ in range(1 if x.dtype == "f32" else 2):
        r = e.fma(m * (y * y), -y, 1.0)
        y = e.fma(y * r, e.fma(r, 2 / 9, 1 / 3), y)
    inverse_square = y * y
    c = m * inverse_square
    c = e.fma(e.fma(c * c, -c, m), inverse_square * (1 / 3), c)
    c = copysign(e, c * power_of_two(e, z), x)
    return e.select((a > 0.0) & (a < math.inf), c, x)


def hypot(e: Emitter, x: Val, y: Val) -> Val:
    """sqrt(x^2 + y^2) without overflow on the way; inf where either is inf, even beside NaN.

    Error seen: 0.51 ULP (f32), 1.1 (f64).
    """
    x, y = same(e, x, y)
    a, b = absolute(e, x), absolute(e, y)
    infinite = a.eq(math.inf) | b.eq(math.inf)
    if x.dtype == "f32":
        u, v = e.convert(a, "f64"), e.convert(b, "f64")
        h = e.convert(e.intrinsic("sqrt", e.fma(u, u, v * v)), "f32")
    else:
        high = e.select(a > b, a, b)
        low = e.select(a > b, b, a)
        scale = e.select(high > 2.0 ** 500, e.like(a, 2.0 ** -600),
                         e.select(high < 2.0 ** -400, e.like(a, 2.0 ** 600), 1.0))
        u, v = high * scale, low * scale
        h = e.intrinsic("sqrt", e.fma(u, u, v * v)) * real(e, -bits(e, scale) + (2 * 1023 << 52))
    return e.select(infinite, math.inf, h)
