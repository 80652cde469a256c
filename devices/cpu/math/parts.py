"""Functions on the parts of a float: nextafter, spacing, frexp, ldexp, copysign."""

from __future__ import annotations

from weft.devices.cpu.emit import Emitter, Val
from weft.devices.cpu.math import tools
from weft.devices.cpu.math.tools import absolute, bits, format_of, real, same

__all__ = ["copysign", "frexp_exponent", "frexp_mantissa", "ldexp", "nextafter", "spacing"]


def copysign(e: Emitter, x: Val, y: Val) -> Val:
    """|x| with the sign of y."""
    x, y = same(e, x, y)
    return tools.copysign(e, x, y)


def nextafter(e: Emitter, x: Val, y: Val) -> Val:
    """The next float from x towards y; y where they are equal."""
    x, y = same(e, x, y)
    i, j = bits(e, x), bits(e, y)
    inwards = (x < y) ^ (x > 0.0)
    r = e.select(inwards, i - 1, i + 1)
    r = e.select(x.eq(0.0), (j & format_of(x).sign_bit) | 1, r)
    r = e.select(x.eq(y), j, r)
    return e.select(e.unordered(x, y), x + y, real(e, r))


def spacing(e: Emitter, x: Val) -> Val:
    """The distance to the next float away from zero, signed as x (positive for -0)."""
    return real(e, bits(e, x + 0.0) + 1) - x


def _normal(e: Emitter, x: Val) -> tuple[Val, Val]:
    """x, scaled up if subnormal, and the exponent e of its x = m 2^e, 1/2 <= |m| < 1."""
    fmt = format_of(x)
    small = absolute(e, x) < fmt.least_normal
    up = fmt.mantissa + 1
    x = e.select(small, x * 2.0 ** up, x)
    field = (bits(e, x) & fmt.infinity_bits) >> fmt.mantissa
    return x, field - e.select(small, e.like(field, fmt.bias - 1 + up), fmt.bias - 1)


def _ordinary(e: Emitter, x: Val) -> Val:
    """Where x is neither zero nor infinite nor NaN."""
    a = absolute(e, x)
    return (a > 0.0) & (a < float("inf"))


def _mantissa(e: Emitter, normal: Val) -> Val:
    """The bits of the m of `_normal`, as a float."""
    fmt = format_of(normal)
    return real(e, (bits(e, normal) & ~fmt.infinity_bits) | ((fmt.bias - 1) << fmt.mantissa))


def frexp_mantissa(e: Emitter, x: Val) -> Val:
    """m of x = m 2^e with 1/2 <= |m| < 1; zeros, infinities and NaN as they are."""
    normal, _ = _normal(e, x)
    return e.select(_ordinary(e, x), _mantissa(e, normal), x)


def frexp_exponent(e: Emitter, x: Val) -> Val:
    """e of x = m 2^e with 1/2 <= |m| < 1, as i32; 0 for zeros, infinities and NaN."""
    _, exponent = _normal(e, x)
    return e.convert(e.select(_ordinary(e, x), exponent, 0), "i32")


def ldexp(e: Emitter, x: Val, n: Val) -> Val:
    """x 2^n for an integer n, rounded once."""
    x, n = same(e, x, n)
    fmt = format_of(x)
    limit = 3 * fmt.bias                      # takes any nonzero x beyond overflow or underflow
    if n.dtype[1:] not in ("8",):             # (8 bits cannot hold the limit, nor need it)
        n = e.select(n > limit, limit, n)
        if n.dtype[0] == "i":
            n = e.select(n < -limit, -limit, n)
    normal, exponent = _normal(e, x)
    exponent = exponent + e.convert(n, fmt.int_dtype)
    # m 2^(exponent -+ c) is normal and exact; times 2^+-c it rounds, overflows or underflows.
    c = fmt.bias // 2 + 1
    cap = fmt.bias + fmt.mantissa + 10
    exponent = e.select(exponent > cap, cap, exponent)
    exponent = e.select(exponent < -cap, -cap, exponent)
    up = exponent > 0
    shift = e.select(up, e.like(exponent, fmt.bias - c), fmt.bias + c)
    y = _mantissa(e, normal) * real(e, (exponent + shift) << fmt.mantissa)
    y = y * e.select(up, e.like(y, 2.0 ** c), 2.0 ** -c)
    return e.select(_ordinary(e, x), y, x)
