"""Elementwise ops that are one XLA operation, or a few.

Operands have the result's shape: the walk has repeated those that are 0-d. The keys of `POINTWISE`,
here and in the modules beside it, are what the device can do.
"""

from __future__ import annotations

from math import log as ln
from math import pi, sqrt
from typing import Any

from jax import lax

from weft.compiler.types import dtype_of
from weft.devices.xla.floats import FLOATS, split_exponent
from weft.devices.xla.integers import INTEGERS
from weft.devices.xla.tools import (
    Lowering,
    absolute,
    bits_of,
    both,
    invert,
    kind,
    like,
    negative,
    pick,
    to,
    wide,
)

__all__ = ["POINTWISE", "less", "maximum", "minimum"]

LN2 = ln(2)
_LOG10_2 = 0.30102999566398119521


def same(x: Any) -> Any:
    """The operand."""
    return x


def is_nan(x: Any) -> Any:
    """Whether elements are NaN; complex ones if one part is."""
    return lax.ne(x, x)


# ---- order: complex numbers by their real parts, then by their imaginary parts

def _order(compare: Lowering) -> Lowering:
    """A comparison for order, of complex numbers too."""
    def compared(x: Any, y: Any) -> Any:
        if kind(x) != "complex":
            return compare(x, y)
        first = both(lax.lt(lax.real(x), lax.real(y)), _ordered(lax.imag(x), lax.imag(y)))
        return lax.bitwise_or(first, both(lax.eq(lax.real(x), lax.real(y)),
                                          compare(lax.imag(x), lax.imag(y))))
    return compared


def _ordered(x: Any, y: Any) -> Any:
    return invert(lax.bitwise_or(is_nan(x), is_nan(y)))


less, less_equal = _order(lax.lt), _order(lax.le)       # as NumPy orders


def maximum(x: Any, y: Any) -> Any:
    """The larger, NaN if either is; which of two zeros, XLA decides."""
    if kind(x) != "complex":
        return lax.max(x, y)
    return pick(lax.bitwise_or(less_equal(y, x), is_nan(x)), x, y)


def minimum(x: Any, y: Any) -> Any:
    """The smaller, NaN if either is; which of two zeros, XLA decides."""
    if kind(x) != "complex":
        return lax.min(x, y)
    return pick(lax.bitwise_or(less_equal(x, y), is_nan(x)), x, y)


def _fmax(x: Any, y: Any) -> Any:
    if kind(x) in ("bool", "int", "uint"):
        return lax.max(x, y)
    return pick(lax.bitwise_or(less_equal(y, x), is_nan(y)), x, y)


def _fmin(x: Any, y: Any) -> Any:
    if kind(x) in ("bool", "int", "uint"):
        return lax.min(x, y)
    return pick(lax.bitwise_or(less_equal(x, y), is_nan(y)), x, y)


# ---- arithmetic

def _add(x: Any, y: Any) -> Any:
    return lax.bitwise_or(x, y) if kind(x) == "bool" else lax.add(x, y)


def _mul(x: Any, y: Any) -> Any:
    return lax.bitwise_and(x, y) if kind(x) == "bool" else lax.mul(x, y)


def _abs(x: Any) -> Any:
    return x if kind(x) in ("bool", "uint") else lax.abs(x)


def _sign(x: Any) -> Any:
    """-1, 0 or 1; of a bfloat16 zero the zero itself, as ml_dtypes has it."""
    if kind(x) != "complex":
        zero = x if dtype_of(x.dtype).name == "bf16" else like(x, 0)
        return pick(lax.eq(x, like(x, 0)), zero, lax.sign(x))
    size = lax.abs(x)
    re, im = lax.real(x), lax.imag(x)
    # of an infinite part the sign, and 0 beside it
    parts = []
    for part, other in ((re, im), (im, re)):
        endless = lax.eq(lax.abs(part), like(part, float("inf")))
        one_endless = lax.eq(lax.abs(other), like(other, float("inf")))
        quotient = pick(lax.eq(size, like(size, 0)), 0, lax.div(part, size))
        only = pick(one_endless, 0, quotient)
        parts.append(pick(both(endless, invert(one_endless)), lax.sign(part),
                          pick(both(endless, one_endless), float("nan"), only)))
    nan = lax.bitwise_or(is_nan(re), is_nan(im))
    return lax.complex(pick(nan, float("nan"), parts[0]), pick(nan, float("nan"), parts[1]))


def _trunc(x: Any) -> Any:
    return pick(negative(x), lax.ceil(x), lax.floor(x))


def _rint(x: Any) -> Any:
    return lax.round(x, lax.RoundingMethod.TO_NEAREST_EVEN)


def _is_inf(x: Any) -> Any:
    if kind(x) == "complex":
        return lax.bitwise_or(_is_inf(lax.real(x)), _is_inf(lax.imag(x)))
    return lax.eq(lax.abs(x), like(x, float("inf")))


def _is_finite(x: Any) -> Any:
    if kind(x) == "complex":
        return both(lax.is_finite(lax.real(x)), lax.is_finite(lax.imag(x)))
    return lax.is_finite(x)


def _signbit(x: Any) -> Any:
    bits = bits_of(x)
    top = dtype_of(bits.dtype).bits - 1
    return lax.ne(lax.shift_right_logical(bits, like(bits, top)), like(bits, 0))


def _popcnt(x: Any) -> Any:
    return to(lax.population_count(absolute(x)), "u8")


def _complex(x: Any, y: Any) -> Any:
    part = "f32" if dtype_of(x.dtype).itemsize <= 4 else "f64"
    return lax.complex(to(x, part), to(y, part))


# ---- exponentials and logarithms

def _exp2(x: Any) -> Any:
    """2 to the whole part, which is exact, times the rest."""
    if kind(x) == "complex":
        return _exp2_complex(x)
    whole = _rint(lax.clamp(like(x, -2000), x, like(x, 2000)))
    rest = lax.exp(lax.mul(lax.sub(x, whole), like(x, LN2)))
    out = FLOATS["ldexp"](rest, to(pick(is_nan(whole), 0, whole), "i32"))
    endless = lax.bitwise_or(is_nan(x), lax.eq(lax.abs(x), like(x, float("inf"))))
    return pick(endless, lax.exp(x), out)


def _exp2_complex(x: Any) -> Any:
    """The angle is taken in double precision: it may be many turns."""
    angle = to(lax.imag(x), "f64")
    angle = lax.mul(angle, like(angle, LN2))
    size, part = _exp2(lax.real(x)), dtype_of(x.dtype).real
    return lax.complex(lax.mul(size, to(lax.cos(angle), part)),
                       lax.mul(size, to(lax.sin(angle), part)))


def _log2(x: Any) -> Any:
    """The exponent is split off, so that powers of 2 have whole logarithms."""
    if kind(x) == "complex":
        return lax.mul(lax.log(x), like(x, 1 / LN2))
    m, e = split_exponent(x)
    return pick(_plain(x), lax.add(e, lax.mul(lax.log(m), like(m, 1 / LN2))), lax.log(x))


def _log10(x: Any) -> Any:
    """As `_log2`, with log10(2) in two parts, of which the first times an exponent is exact."""
    if kind(x) == "complex":
        return lax.mul(lax.log(x), like(x, 1 / ln(10)))
    m, e = split_exponent(x)
    high = float(int(_LOG10_2 * 2**12)) / 2**12
    low = lax.add(lax.mul(e, like(e, _LOG10_2 - high)), lax.mul(lax.log(m), like(m, 1 / ln(10))))
    return pick(_plain(x), lax.add(lax.mul(e, like(e, high)), low), lax.log(x))


def _atanh(x: Any) -> Any:
    """In double precision by `log1p` where that is good to 2 ULP, above 0."""
    if dtype_of(x.dtype).name != "f64":
        return lax.atanh(x)
    size = lax.abs(x)
    ratio = lax.div(lax.add(size, size), lax.sub(like(x, 1), size))
    out = lax.mul(lax.log1p(ratio), like(x, 0.5))
    return FLOATS["copysign"](out, x)


def _erf_inv(x: Any) -> Any:
    """XLA's is good to single precision; a step of Halley's method makes the rest."""
    y = lax.erf_inv(x)
    if dtype_of(x.dtype).name != "f64":
        return y
    size, at = lax.abs(x), lax.abs(y)
    inside = lax.lt(size, like(x, 1))
    at = pick(inside, at, 0)
    far = lax.sub(lax.sub(like(x, 1), size), lax.erfc(at))
    rest = pick(lax.lt(size, like(x, 0.5)), lax.sub(lax.erf(at), size), far)
    step = lax.mul(lax.mul(rest, like(x, sqrt(pi) / 2)), lax.exp(lax.mul(at, at)))
    at = lax.sub(at, lax.div(step, lax.add(like(x, 1), lax.mul(at, step))))
    tiny = lax.lt(size, like(x, 1e-150))        # where the step is rounding, or flushed
    return pick(both(inside, invert(tiny)), FLOATS["copysign"](at, x), y)


def _plain(x: Any) -> Any:
    """Whether elements are positive and finite."""
    return both(lax.gt(x, like(x, 0)), lax.lt(x, like(x, float("inf"))))


def _logaddexp(x: Any, y: Any) -> Any:
    high, low = lax.max(x, y), lax.min(x, y)
    apart = lax.sub(low, high)
    sum_ = lax.add(high, lax.log1p(lax.exp(apart)))
    # of equal infinities the difference is NaN, of unequal ones nothing is added
    return pick(lax.eq(x, y), lax.add(x, like(x, LN2)), sum_)


def _logaddexp2(x: Any, y: Any) -> Any:
    high, low = lax.max(x, y), lax.min(x, y)
    apart = lax.sub(low, high)
    more = lax.mul(lax.log1p(lax.exp2(apart)), like(x, 1 / LN2))
    return pick(lax.eq(x, y), lax.add(x, like(x, 1)), lax.add(high, more))


# ---- hyperbolic functions: XLA's own lose digits to exp(x + log 1/2), and overflow early

def _halves(x: Any) -> Any:
    """exp(|x|) / 2, which does not overflow before the result does."""
    half = lax.exp(lax.mul(lax.abs(x), like(x, 0.5)))
    return lax.mul(lax.mul(half, like(x, 0.5)), half)


def _sinh(x: Any) -> Any:
    if kind(x) == "complex":
        re, im = lax.real(x), lax.imag(x)
        return lax.complex(_times(_sinh(re), lax.cos(im)), _times(lax.sin(im), _cosh(re)))
    t = lax.expm1(lax.abs(x))
    small = lax.mul(lax.add(t, lax.div(t, lax.add(t, like(t, 1)))), like(t, 0.5))
    return FLOATS["copysign"](pick(lax.gt(lax.abs(x), like(x, 20)), _halves(x), small), x)


def _cosh(x: Any) -> Any:
    if kind(x) == "complex":
        re, im = lax.real(x), lax.imag(x)
        return lax.complex(_times(lax.cos(im), _cosh(re)), _times(_sinh(re), lax.sin(im)))
    e = lax.exp(lax.abs(x))
    small = lax.mul(lax.add(e, lax.div(like(e, 1), e)), like(e, 0.5))
    return pick(lax.gt(lax.abs(x), like(x, 20)), _halves(x), small)


def _times(x: Any, y: Any) -> Any:
    """x y, where a zero x stands against infinite y too."""
    return pick(lax.eq(x, like(x, 0)), pick(is_nan(y), y, x), lax.mul(x, y))


def _sin(x: Any) -> Any:
    if kind(x) != "complex":
        return lax.sin(x)
    re, im = lax.real(x), lax.imag(x)
    return lax.complex(_times(lax.sin(re), _cosh(im)), _times(_sinh(im), lax.cos(re)))


def _cos(x: Any) -> Any:
    if kind(x) != "complex":
        return lax.cos(x)
    re, im = lax.real(x), lax.imag(x)
    return lax.complex(_times(lax.cos(re), _cosh(im)),
                       lax.neg(_times(_sinh(im), lax.sin(re))))


WIDE: dict[str, Lowering] = {
    "cbrt": lax.cbrt, "exp": lax.exp, "exp2": _exp2, "expm1": lax.expm1, "log": lax.log,
    "log2": _log2, "log10": _log10, "log1p": lax.log1p, "sin": _sin, "cos": _cos,
    "tan": lax.tan, "asin": lax.asin, "acos": lax.acos, "atan": lax.atan, "sinh": _sinh,
    "cosh": _cosh, "tanh": lax.tanh, "asinh": lax.asinh, "acosh": lax.acosh,
    "atanh": _atanh, "erf": lax.erf, "erfc": lax.erfc, "erf_inv": _erf_inv,
    "logistic": lax.logistic, "atan2": lax.atan2, "logaddexp": _logaddexp,
    "logaddexp2": _logaddexp2,
}
"""Of 16-bit floats computed in f32."""

POINTWISE: dict[str, Lowering] = {
    "neg": lax.neg, "floor": lax.floor, "ceil": lax.ceil, "trunc": _trunc, "rint": _rint,
    "sqrt": lax.sqrt, "not": lax.bitwise_not, "abs": _abs, "sign": _sign,
    "conj": lambda x: lax.conj(x) if kind(x) == "complex" else x,
    "real": lax.real, "imag": lax.imag, "is_nan": is_nan, "is_inf": _is_inf,
    "is_finite": _is_finite, "signbit": _signbit, "popcnt": _popcnt,
    "stop_gradient": same, "optimization_barrier": lax.optimization_barrier,
    "add": _add, "sub": lax.sub, "mul": _mul, "div": lax.div,
    "maximum": maximum, "minimum": minimum, "fmax": _fmax, "fmin": _fmin,
    "and": lax.bitwise_and, "or": lax.bitwise_or, "xor": lax.bitwise_xor,
    "eq": lax.eq, "ne": lax.ne, "lt": less, "le": less_equal,
    "gt": lambda x, y: less(y, x), "ge": lambda x, y: less_equal(y, x),
    "complex": _complex, "select": lax.select,
    **{name: wide(fn) for name, fn in WIDE.items()},
    **FLOATS,
    **INTEGERS,
}
