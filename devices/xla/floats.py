"""Floats by their bits: exponents, neighbours, exact remainders, and what is made of them.

XLA may flush subnormal numbers to zero in arithmetic. What is done here on bits does not.
"""

from __future__ import annotations

from typing import Any

from jax import lax

from weft.compiler.types import DTYPES, DType, dtype_of
from weft.devices.xla.tools import (
    Lowering,
    bits_of,
    both,
    dtype_info,
    float_bits,
    invert,
    like,
    negative,
    pick,
    to,
    wide,
)

__all__ = ["FLOATS", "split_exponent"]


def _floats(bits: Any, dtype: DType) -> Any:
    return lax.bitcast_convert_type(bits, dtype.numpy)


def _shl(x: Any, n: Any) -> Any:
    return lax.shift_left(x, n if hasattr(n, "dtype") else like(x, n))


def _shr(x: Any, n: Any) -> Any:
    return lax.shift_right_logical(x, n if hasattr(n, "dtype") else like(x, n))


def _and(x: Any, mask: int) -> Any:
    return lax.bitwise_and(x, like(x, mask))


def _or(x: Any, y: Any) -> Any:
    return lax.bitwise_or(x, y if hasattr(y, "dtype") else like(x, y))


class _Parts:
    """Sign, exponent and fraction of floats; of subnormal ones as if they were normal.

    `exponent`, of type i32, is that of the leading bit; `fraction` has that bit too.
    """

    def __init__(self, x: Any) -> None:
        self.dtype = dtype_of(x.dtype)
        unsigned, self.width = float_bits(self.dtype)
        self.top = unsigned.bits - 1
        self.most = (1 << (self.top - self.width)) - 1          # the exponent field of infinity
        self.bias = self.most >> 1
        bits = lax.bitcast_convert_type(x, unsigned.numpy)
        self.sign = _and(bits, 1 << self.top)
        self.size = _and(bits, (1 << self.top) - 1)
        self.is_zero = lax.eq(self.size, like(self.size, 0))
        self.is_special = lax.ge(self.size, like(self.size, self.most << self.width))
        field = _shr(self.size, self.width)
        low = _and(self.size, (1 << self.width) - 1)
        subnormal = lax.eq(field, like(field, 0))
        zeros = lax.sub(lax.clz(low), like(low, unsigned.bits - 1 - self.width))
        up = pick(subnormal, pick(self.is_zero, 0, zeros), 0)
        self.fraction = _shl(pick(subnormal, low, _or(low, 1 << self.width)), up)
        at = pick(subnormal, like(field, 1), field)
        self.exponent = lax.sub(lax.sub(to(at, "i32"), to(up, "i32")),
                                lax.full_like(to(at, "i32"), self.bias))

    def scaled(self, exponent: Any) -> Any:
        """The finite numbers with another exponent (i32), rounded to even where that is small."""
        field = lax.add(exponent, like(exponent, self.bias))
        endless = lax.ge(field, like(field, self.most))
        normal = _or(_shl(to(lax.clamp(like(field, 1), field, like(field, self.most)),
                             DTYPES[f"u{self.top + 1}"]), self.width),
                     _and(self.fraction, (1 << self.width) - 1))
        down = lax.clamp(like(field, 0), lax.sub(like(field, 1), field),
                         like(field, self.width + 2))
        small = _rounded(self.fraction, to(down, DTYPES[f"u{self.top + 1}"]))
        out = pick(lax.lt(field, like(field, 1)), small, normal)
        out = pick(endless, self.most << self.width, out)
        return _floats(_or(self.sign, pick(self.is_zero, 0, out)), self.dtype)


def _rounded(x: Any, down: Any) -> Any:
    """x / 2**down, rounded to even."""
    one = like(x, 1)
    q = lax.shift_right_logical(x, down)
    rest = lax.sub(x, lax.shift_left(q, down))
    half = pick(lax.eq(down, like(down, 0)), 0,
                lax.shift_left(one, lax.sub(lax.max(down, one), one)))
    odd = lax.ne(lax.bitwise_and(q, one), like(q, 0))
    up = both(lax.gt(down, like(down, 0)), lax.bitwise_or(
        lax.gt(rest, half), both(lax.eq(rest, half), odd)))
    return pick(up, lax.add(q, one), q)


def split_exponent(x: Any) -> tuple[Any, Any]:
    """m and e with x = m 2**e and m about 1, from sqrt(1/2) to sqrt(2); for positive x."""
    parts = _Parts(x)
    m = parts.scaled(like(parts.exponent, 0))
    large = lax.gt(m, like(m, 2**0.5))
    e = lax.add(parts.exponent, to(large, "i32"))
    return pick(large, lax.mul(m, like(m, 0.5)), m), to(e, parts.dtype)


def _mantissa(x: Any) -> Any:
    parts = _Parts(x)
    return pick(lax.bitwise_or(parts.is_zero, parts.is_special), x,
                parts.scaled(like(parts.exponent, -1)))


def _exponent(x: Any) -> Any:
    parts = _Parts(x)
    none = lax.bitwise_or(parts.is_zero, parts.is_special)
    return pick(none, 0, lax.add(parts.exponent, like(parts.exponent, 1)))


def _ldexp(x: Any, n: Any) -> Any:
    parts = _Parts(x)
    bound = like(n, 4 * parts.most)
    at = lax.add(parts.exponent, lax.clamp(lax.neg(bound), n, bound))
    return pick(lax.bitwise_or(parts.is_zero, parts.is_special), x, parts.scaled(at))


def _copysign(x: Any, y: Any) -> Any:
    dtype = dtype_of(x.dtype)
    top = dtype.bits - 1
    return _floats(_or(_and(bits_of(x), (1 << top) - 1), _and(bits_of(y), 1 << top)), dtype)


def _nextafter(x: Any, y: Any) -> Any:
    dtype = dtype_of(x.dtype)
    top = 1 << (dtype.bits - 1)
    a, b = bits_of(x), bits_of(y)
    size, other = _and(a, top - 1), _and(b, top - 1)
    zero, one = lax.eq(size, like(size, 0)), like(a, 1)
    same_sign = lax.eq(_and(a, top), _and(b, top))
    away = both(same_sign, lax.gt(other, size))
    moved = pick(away, lax.add(a, one), lax.sub(a, one))
    out = pick(zero, _or(_and(b, top), one), moved)
    equal = lax.bitwise_or(lax.eq(a, b), both(zero, lax.eq(other, like(other, 0))))
    out = _floats(pick(equal, b, out), dtype)
    nan = lax.bitwise_or(lax.ne(x, x), lax.ne(y, y))
    return pick(nan, float("nan"), out)


def _spacing(x: Any) -> Any:
    """The distance to the next number away from 0; of float16, as NumPy has it, to the next
    larger one."""
    parts = _Parts(x)
    dtype = parts.dtype
    if dtype.name == "f16":
        up = _nextafter(x, like(x, float("inf")))
        return pick(parts.is_special, float("nan"),
                    to(lax.sub(to(up, "f32"), to(x, "f32")), dtype))
    least = 1 - parts.bias - parts.width
    at = lax.max(lax.sub(parts.exponent, like(parts.exponent, parts.width)),
                 like(parts.exponent, least))
    at = pick(parts.is_zero, least, at)
    one = _Parts(like(x, 1))
    out = one.scaled(at)
    if dtype.name == "bf16":            # of -0.0 too, as ml_dtypes has it
        out = _copysign(out, x)
    else:
        out = pick(parts.is_zero, out, _copysign(out, x))
    return pick(parts.is_special, float("nan"), out)


# ---- division with remainder, by the algorithm of CPython and NumPy

def _divmod(x: Any, y: Any) -> tuple[Any, Any]:
    rest = lax.rem(x, y)
    quotient = lax.div(lax.sub(x, rest), y)
    zero = like(x, 0)
    turned = both(lax.ne(rest, zero), lax.ne(negative(y), negative(rest)))
    quotient = pick(turned, lax.sub(quotient, like(x, 1)), quotient)
    rest = pick(lax.eq(rest, zero), _copysign(zero, y), pick(turned, lax.add(rest, y), rest))
    floor = lax.floor(quotient)
    floor = pick(lax.gt(lax.sub(quotient, floor), like(x, 0.5)), lax.add(floor, like(x, 1)), floor)
    floor = pick(lax.eq(quotient, zero), _copysign(zero, lax.div(x, y)), floor)
    return floor, rest


def float_floor_divide(x: Any, y: Any) -> Any:
    """floor(x / y)."""
    return pick(lax.eq(y, like(y, 0)), lax.div(x, y), _divmod(x, y)[0])


def float_remainder(x: Any, y: Any) -> Any:
    """x - y floor(x / y), with the sign of y."""
    return pick(lax.eq(y, like(y, 0)), float("nan"), _divmod(x, y)[1])


def _hypot(x: Any, y: Any) -> Any:
    """By squares of the numbers scaled by a power of 2, so that neither overflows."""
    x, y = lax.abs(x), lax.abs(y)
    large = lax.max(x, y)
    dtype = dtype_of(x.dtype)
    info = dtype_info(dtype)
    _, width = float_bits(dtype)
    power = _floats(_and(bits_of(large), ((1 << (dtype.bits - 1 - width)) - 1) << width), dtype)
    power = lax.clamp(like(x, float(info.tiny)), power, like(x, float(info.max) / 4))
    a, b = lax.div(x, power), lax.div(y, power)
    out = lax.mul(lax.sqrt(lax.add(lax.mul(a, a), lax.mul(b, b))), power)
    endless = lax.bitwise_or(lax.eq(x, like(x, float("inf"))), lax.eq(y, like(y, float("inf"))))
    out = pick(lax.eq(lax.min(x, y), like(x, 0)), large, out)
    return pick(endless, float("inf"), pick(invert(lax.eq(out, out)), float("nan"), out))


FLOATS: dict[str, Lowering] = {
    "frexp_mantissa": _mantissa, "frexp_exponent": _exponent, "ldexp": _ldexp,
    "copysign": _copysign, "nextafter": _nextafter, "spacing": _spacing, "hypot": wide(_hypot),
}
