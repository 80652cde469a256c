"""log, log2, log10 and log1p.

All write x = 2^k (1 + f) with sqrt(1/2) <= 1 + f < sqrt(2), and with s = f / (2 + f)
log(1 + f) = 2 atanh(s) = f - s (f - T(s^2)), where T is a minimax polynomial (the arrangement keeps
the leading term f exact; it is that of FDLIBM's log). `fit.py` fitted T.
"""

from __future__ import annotations

import math

from weft.devices.cpu.emit import Emitter, Val
from weft.devices.cpu.math.log_by_table import log1p_by_table, log_by_table
from weft.devices.cpu.math.lookup import has_avx512
from weft.devices.cpu.math.tools import bits, copysign, format_of, horner, real

__all__ = ["LN2", "log", "log1p", "log2", "log2_of", "log10", "log_near_one", "split",
           "split_1p"]

# 2 (atanh(s) / s - 1) / s^2 in s^2, |s| <= 0.1716: 2^-30.2 and 2^-59.4 relative to 2 atanh(s) / s.
ATANH = {
    "f32": (0.6666677594184875, 0.3997756540775299, 0.2987159490585327),
    "f64": (0.6666666666666735, 0.3999999999940999, 0.28571428743533794, 0.22222198445738559,
            0.18183571429056544, 0.1531385721078032, 0.14797993438623097)}
# ln 2 and log10 2 in two parts, the first so short that any k times it is exact.
LN2 = {"f32": (0.693359375, -2.12194440054690583e-4),
       "f64": (0.6931471805598903, 5.497923018708371e-14)}
LOG10_2 = {"f32": (0.301025390625, 4.605038611771306e-06),
           "f64": (0.30102999566395283, 2.8363394551044964e-14)}
SQRT_HALF = 0.7071067811865476
LOG2_E = 1.4426950408889634
LOG10_E = 0.4342944819032518


def _reference(x: Val) -> tuple[int, int]:
    """The bits of sqrt(1/2), and what to add to the bits of x to see its exponent from there."""
    fmt = format_of(x)
    # sqrt(1/2) = 2^-1 * 1.4142…: exponent field bias - 1, mantissa to the nearest.
    root = ((fmt.bias - 1) << fmt.mantissa) + round((2 * SQRT_HALF - 1) * 2 ** fmt.mantissa)
    return root, (fmt.bias << fmt.mantissa) - root


def _to_real(e: Emitter, k: Val) -> Val:
    """A small integer k >= 0 as a float, plus 2^mantissa."""
    fmt = {"i32": "f32", "i64": "f64"}[k.dtype]
    like = e.const(fmt, 0.0)
    width = format_of(like)
    return real(e, k | ((width.bias + width.mantissa) << width.mantissa))


def split(e: Emitter, x: Val) -> tuple[Val, Val]:
    """k (as a float) and f = m - 1 of x = 2^k m; x > 0 and finite, or else anything."""
    fmt = format_of(x)
    root, shift = _reference(x)
    small = x < fmt.least_normal
    up = fmt.mantissa + 1
    x = e.select(small, x * 2.0 ** up, x)
    usual = 2.0 ** fmt.mantissa + fmt.bias
    bias = e.select(small, e.like(x, usual + up), usual)
    h = bits(e, x) + shift
    k = _to_real(e, e.bitcast(e.bitcast(h, fmt.uint_dtype) >> fmt.mantissa, fmt.int_dtype)) - bias
    m = real(e, (h & ((1 << fmt.mantissa) - 1)) + root)
    return k, m - 1.0


def log_near_one(e: Emitter, f: Val) -> Val:
    """w = f - log(1 + f), for sqrt(1/2) <= 1 + f <= sqrt(2)."""
    s = f / (f + 2.0)
    z = s * s
    return s * (f - z * horner(e, z, ATANH[f.dtype]))


def _special(e: Emitter, x: Val, result: Val, zero: float = 0.0) -> Val:
    """The result, but inf at inf, -inf at `zero`, NaN below it and at NaN."""
    off = e.select(x.eq(zero), e.like(x, -math.inf), math.nan)
    return e.select(x > zero, e.select(x < math.inf, result, x), off)


def log(e: Emitter, x: Val) -> Val:
    """The natural logarithm. Error seen: 1.0 ULP (f32), 0.9 (f64)."""
    if has_avx512(e):
        return log_by_table(e, x, "log")
    k, f = split(e, x)
    hi, lo = LN2[x.dtype]
    return _special(e, x, e.fma(k, hi, f - e.fma(k, -lo, log_near_one(e, f))))


def log2_of(e: Emitter, k: Val, f: Val) -> Val:
    """log2 of 2^k (1 + f): k + f + (f (log2(e) - 1) - w log2(e))."""
    w = log_near_one(e, f)
    return k + (f + e.fma(f, LOG2_E - 1, w * -LOG2_E))


def log2(e: Emitter, x: Val) -> Val:
    """The logarithm to base 2. Error seen: 1.4 ULP (f32), 1.2 (f64)."""
    if has_avx512(e):
        return log_by_table(e, x, "log2")
    k, f = split(e, x)
    return _special(e, x, log2_of(e, k, f))


def log10(e: Emitter, x: Val) -> Val:
    """The logarithm to base 10: k log10(2) + f / 2 + (f (log10(e) - 1/2) - w log10(e)).

    Error seen: 1.4 ULP (f32), 1.5 (f64).
    """
    if has_avx512(e):
        return log_by_table(e, x, "log10")
    k, f = split(e, x)
    hi, lo = LOG10_2[x.dtype]
    w = e.fma(k, lo, log_near_one(e, f) * -LOG10_E)
    return _special(e, x, e.fma(k, hi, e.fma(f, 0.5, e.fma(f, LOG10_E - 0.5, w))))


def split_1p(e: Emitter, x: Val, rest: Val | None = None) -> tuple[Val, Val]:
    """k and f of 1 + x = 2^k (1 + f), for x > -1 and finite; `rest`, if given, is added to x.

    k comes from 1 + x rounded; f = 2^-k x + (2^-k - 1) is formed from x itself, with one rounding.
    """
    fmt = format_of(x)
    _, shift = _reference(x)
    h = bits(e, x + 1.0) + shift
    k = (_to_real(e, e.bitcast(e.bitcast(h, fmt.uint_dtype) >> fmt.mantissa, fmt.int_dtype))
         - (2.0 ** fmt.mantissa + fmt.bias))
    power = h & (fmt.infinity_bits | fmt.sign_bit)                   # (k + bias) << mantissa
    s = real(e, -power + ((2 * fmt.bias + 2) << fmt.mantissa))       # 2^(2-k): k can be bias + 1
    f = (x * s) * 0.25 + e.fma(s, 0.25, -1.0)
    return k, f if rest is None else f + (rest * s) * 0.25


def log1p(e: Emitter, x: Val, rest: Val | None = None) -> Val:
    """log(1 + x); `rest`, much smaller than x, is added to x if given.

    Error seen: 1.6 ULP (f32), 1.4 (f64).
    """
    if x.dtype == "f32" and has_avx512(e):
        return log1p_by_table(e, x, rest)
    k, f = split_1p(e, x, rest)
    hi, lo = LN2[x.dtype]
    result = e.fma(k, hi, f - e.fma(k, -lo, log_near_one(e, f)))
    return copysign(e, _special(e, x, result, -1.0), x)
