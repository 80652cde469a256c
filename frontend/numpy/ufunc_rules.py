"""What each ufunc is in primitive ops, once its operands have the loop's element types.

`RULES` maps a ufunc's name to the name of a primitive, or to a function of a builder and the
operand nodes. Operands have one shape, or are 0-d. The names of scipy.special's ufunc objects are
here too: they reach tracers through the same protocol.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from weft.compiler.build import Builder
from weft.compiler.ir import Node, is_scalar_constant
from weft.compiler.types import DTYPES, DType

__all__ = ["COMPARISONS", "RULES", "Rule", "full_like"]

Rule: TypeAlias = str | Callable[..., Any]

COMPARISONS = {"equal": "eq", "not_equal": "ne", "less": "lt", "less_equal": "le",
               "greater": "gt", "greater_equal": "ge"}

RULES: dict[str, Rule] = {
    "add": "add", "subtract": "sub", "multiply": "mul", "divide": "div", "fmod": "fmod",
    "floor_divide": "floor_divide", "remainder": "remainder", "arctan2": "atan2",
    "maximum": "maximum", "minimum": "minimum", "fmax": "fmax", "fmin": "fmin", "hypot": "hypot",
    "logaddexp": "logaddexp", "logaddexp2": "logaddexp2", "copysign": "copysign",
    "nextafter": "nextafter", "bitwise_and": "and", "bitwise_or": "or", "bitwise_xor": "xor",
    "left_shift": "shift_left", "right_shift": "shift_right", "gcd": "gcd", "lcm": "lcm",
    "float_power": "pow",
    "negative": "neg", "absolute": "abs", "fabs": "abs", "sign": "sign",
    "sqrt": "sqrt", "cbrt": "cbrt", "exp": "exp", "exp2": "exp2", "expm1": "expm1", "log": "log",
    "log2": "log2", "log10": "log10", "log1p": "log1p", "sin": "sin", "cos": "cos", "tan": "tan",
    "arcsin": "asin", "arccos": "acos", "arctan": "atan", "sinh": "sinh", "cosh": "cosh",
    "tanh": "tanh", "arcsinh": "asinh", "arccosh": "acosh", "arctanh": "atanh",
    "spacing": "spacing", "invert": "not", "signbit": "signbit",
    "bitwise_count": "popcnt", "erf": "erf", "erfc": "erfc", "erfinv": "erf_inv",
    "expit": "logistic",
}


def rule(*names: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a composed ufunc under its names."""
    def decorate(fn: Callable[..., Any]) -> Callable[..., Any]:
        RULES.update(dict.fromkeys(names, fn))
        return fn
    return decorate


def full_like(b: Builder, x: Node, value: Any, dtype: DType | None = None) -> Node:
    """A constant in the shape of `x`."""
    return b.broadcast(b.scalar(value, dtype or x.dtype), x.shape)


def _like(b: Builder, x: Node, value: float) -> Node:
    return b.scalar(value, x.dtype)


# ---- comparisons: NumPy compares int64 with uint64 exactly

def _comparison(op: str) -> Callable[..., Node]:
    negative_first = op in ("ne", "lt", "le")      # the answer where a signed operand is negative

    def compare(b: Builder, x: Node, y: Node) -> Node:
        if x.dtype is y.dtype:
            return b.add(op, x, y)
        signed, swapped = (x, False) if x.dtype.kind == "int" else (y, True)
        below = b.lt(signed, _like(b, signed, 0))
        plain = b.add(op, b.convert(x, "u64"), b.convert(y, "u64"))
        answer = op in ("ne", "gt", "ge") if swapped else negative_first
        return b.or_(below, plain) if answer else b.and_(b.not_(below), plain)
    return compare


RULES.update({name: _comparison(op) for name, op in COMPARISONS.items()})


def _logical(op: str) -> Callable[..., Node]:
    def apply(b: Builder, *operands: Node) -> Node:
        return b.add(op, *(b.convert(x, "bool") for x in operands))
    return apply


for _name in ("and", "or", "xor", "not"):
    RULES[f"logical_{_name}"] = _logical(_name)


# ---- identities on integers, tests that are constant on them

def _unless_float(op: str) -> Callable[..., Node]:
    def apply(b: Builder, x: Node) -> Node:
        return b.add(op, x) if x.dtype.is_float else x
    return apply


for _name in ("floor", "ceil", "trunc"):
    RULES[_name] = _unless_float(_name)


def _float_test(op: str, on_integers: bool) -> Callable[..., Node]:
    def apply(b: Builder, x: Node) -> Node:
        if x.dtype.is_inexact:
            return b.add(op, x)
        return full_like(b, x, on_integers, DTYPES["bool"])
    return apply


RULES["isnan"] = _float_test("is_nan", False)
RULES["isinf"] = _float_test("is_inf", False)
RULES["isfinite"] = _float_test("is_finite", True)


@rule("positive")
def _positive(b: Builder, x: Node) -> Node:
    return x


@rule("conjugate")
def _conjugate(b: Builder, x: Node) -> Node:
    return b.conj(x) if x.dtype.is_complex else x


# ---- arithmetic

@rule("rint")
def _rint(b: Builder, x: Node) -> Node:
    return b.complex(b.rint(b.real(x)), b.rint(b.imag(x))) if x.dtype.is_complex else b.rint(x)


@rule("square")
def _square(b: Builder, x: Node) -> Node:
    return b.mul(x, x)


@rule("reciprocal")
def _reciprocal(b: Builder, x: Node) -> Node:
    if x.dtype.is_inexact:
        return b.div(_like(b, x, 1), x)
    at_zero = np.iinfo(x.dtype.numpy).min if x.dtype.itemsize >= 4 else 0
    unit = b.eq(b.abs(x), _like(b, x, 1))
    return b.select(unit, x, b.select(b.eq(x, _like(b, x, 0)), _like(b, x, at_zero),
                                      _like(b, x, 0)))


@rule("power")
def _power(b: Builder, x: Node, y: Node) -> Node:
    if is_scalar_constant(y) and x.dtype.is_inexact:
        exponent = y.attrs["value"].item()      # NumPy's shortcuts for one exponent for all
        if exponent == 2:
            return b.mul(x, x)
        if exponent == 1:
            return x
        if exponent == 0.5:
            return b.sqrt(x)
        if exponent == -1:
            return b.div(_like(b, x, 1), x)
    return b.pow(x, y)


@rule("divmod")
def _divmod(b: Builder, x: Node, y: Node) -> tuple[Node, Node]:
    return b.floor_divide(x, y), b.remainder(x, y)


@rule("modf")
def _modf(b: Builder, x: Node) -> tuple[Node, Node]:
    whole = b.trunc(x)
    fraction = b.select(b.is_inf(x), _like(b, x, 0), b.sub(x, whole))
    return b.copysign(fraction, x), whole


@rule("frexp")
def _frexp(b: Builder, x: Node) -> tuple[Node, Node]:
    return b.frexp_mantissa(x), b.frexp_exponent(x)


@rule("ldexp")
def _ldexp(b: Builder, x: Node, n: Node) -> Node:
    if n.dtype is not DTYPES["i32"]:
        # beyond this every result has overflowed or underflowed already
        n = b.minimum(b.maximum(n, _like(b, n, -100_000)), _like(b, n, 100_000))
    return b.ldexp(x, b.convert(n, "i32"))


@rule("heaviside")
def _heaviside(b: Builder, x: Node, at_zero: Node) -> Node:
    zero = _like(b, x, 0)
    side = b.select(b.lt(x, zero), zero, _like(b, x, 1))
    return b.select(b.is_nan(x), x, b.select(b.eq(x, zero), at_zero, side))


@rule("deg2rad", "radians")
def _deg2rad(b: Builder, x: Node) -> Node:
    return _scaled(b, x, math.pi, 180.0)


@rule("rad2deg", "degrees")
def _rad2deg(b: Builder, x: Node) -> Node:
    return _scaled(b, x, 180.0, math.pi)


def _scaled(b: Builder, x: Node, top: float, bottom: float) -> Node:
    """x * (top/bottom), the factor rounded as NumPy's C code rounds it; f16 goes through f32."""
    wide = b.convert(x, "f32") if x.dtype.itemsize == 2 else x
    t = wide.dtype.numpy.type
    return b.convert(b.mul(wide, b.scalar(t(top) / t(bottom), wide.dtype)), x.dtype)


@rule("clip")
def _clip(b: Builder, x: Node, low: Node, high: Node) -> Node:
    return b.minimum(b.maximum(x, low), high)


# ---- scipy.special

@rule("logit")
def _logit(b: Builder, x: Node) -> Node:
    return b.log(b.div(x, b.sub(_like(b, x, 1), x)))


@rule("log_expit")
def _log_expit(b: Builder, x: Node) -> Node:
    return b.sub(b.minimum(x, _like(b, x, 0)), b.log1p(b.exp(b.neg(b.abs(x)))))


@rule("ndtr")
def _ndtr(b: Builder, x: Node) -> Node:
    return b.mul(_like(b, x, 0.5), b.erfc(b.mul(x, _like(b, x, -math.sqrt(0.5)))))


@rule("log_ndtr")
def _log_ndtr(b: Builder, x: Node) -> Node:
    # far left, erfc underflows: log(phi(x)/-x) with the first terms of its asymptotic series
    far = b.lt(x, _like(b, x, -8.0 if x.dtype.itemsize < 8 else -20.0))
    s = b.minimum(x, _like(b, x, -5.0))
    r = b.div(_like(b, x, 1), b.mul(s, s))
    series = _like(b, x, 0)
    for c in (-10395.0, 945.0, -105.0, 15.0, -3.0, 1.0):
        series = b.mul(r, b.add_(_like(b, x, c), series))
    tail = b.log1p(b.neg(series))
    left = b.add_(b.sub(b.sub(b.mul(b.mul(s, s), _like(b, x, -0.5)), b.log(b.neg(s))),
                       _like(b, x, 0.5 * math.log(2 * math.pi))), tail)
    right = b.log1p(b.neg(_ndtr(b, b.neg(x))))
    near = b.select(b.gt(x, _like(b, x, -1.0)), right, b.log(_ndtr(b, x)))
    return b.select(far, left, near)


def _x_times(log: str) -> Callable[..., Node]:
    def apply(b: Builder, x: Node, y: Node) -> Node:
        skip = b.and_(b.eq(x, _like(b, x, 0)), b.not_(b.is_nan(y)))
        return b.select(skip, _like(b, x, 0), b.mul(x, b.add(log, y)))
    return apply


RULES["xlogy"] = _x_times("log")
RULES["xlog1py"] = _x_times("log1p")


@rule("entr")
def _entr(b: Builder, x: Node) -> Node:
    zero = _like(b, x, 0)
    value = b.neg(b.mul(x, b.log(x)))
    edge = b.select(b.eq(x, zero), zero, _like(b, x, -math.inf))
    return b.select(b.or_(b.gt(x, zero), b.is_nan(x)), value, edge)


def _relative(b: Builder, x: Node, y: Node, extra: bool) -> Node:
    zero, inf = _like(b, x, 0), _like(b, x, math.inf)
    value = b.mul(x, b.log(b.div(x, y)))
    at_zero: Node = zero
    if extra:
        value = b.add_(b.sub(value, x), y)
        at_zero = y
    edge = b.select(b.and_(b.eq(x, zero), b.ge(y, zero)), at_zero, inf)
    proper = b.and_(b.gt(x, zero), b.gt(y, zero))
    nan = b.or_(b.is_nan(x), b.is_nan(y))
    return b.select(b.or_(proper, nan), value, edge)


@rule("rel_entr")
def _rel_entr(b: Builder, x: Node, y: Node) -> Node:
    return _relative(b, x, y, False)


@rule("kl_div")
def _kl_div(b: Builder, x: Node, y: Node) -> Node:
    # terms that nearly cancel: in double precision, like scipy's
    wide = _relative(b, b.convert(x, "f64"), b.convert(y, "f64"), True)
    return b.convert(wide, x.dtype)


@rule("exp10")
def _exp10(b: Builder, x: Node) -> Node:
    return b.pow(_like(b, x, 10.0), x)


@rule("exprel")
def _exprel(b: Builder, x: Node) -> Node:
    tiny = b.lt(b.abs(x), _like(b, x, float(np.finfo(x.dtype.numpy).eps)))
    inf = b.eq(x, _like(b, x, math.inf))
    value = b.select(inf, x, b.div(b.expm1(x), x))
    return b.select(tiny, _like(b, x, 1.0), value)


@rule("cosm1")
def _cosm1(b: Builder, x: Node) -> Node:
    half = b.sin(b.mul(x, _like(b, x, 0.5)))
    return b.mul(_like(b, x, -2.0), b.mul(half, half))


@rule("huber")
def _huber(b: Builder, delta: Node, r: Node) -> Node:
    size, half = b.abs(r), _like(b, r, 0.5)
    inside = b.mul(half, b.mul(r, r))
    outside = b.mul(delta, b.sub(size, b.mul(half, delta)))
    value = b.select(b.le(size, delta), inside, outside)
    return b.select(b.lt(delta, _like(b, r, 0)), _like(b, r, math.inf), value)


@rule("pseudo_huber")
def _pseudo_huber(b: Builder, delta: Node, r: Node) -> Node:
    zero = _like(b, r, 0)
    q = b.div(r, delta)
    one = _like(b, r, 1)
    square = b.mul(q, q)                           # sqrt(1 + q*q) - 1 without cancellation
    rise = b.div(square, b.add_(b.sqrt(b.add_(one, square)), one))
    value = b.mul(b.mul(delta, delta), rise)
    none = b.or_(b.eq(delta, zero), b.eq(r, zero))
    return b.select(b.lt(delta, zero), _like(b, r, math.inf), b.select(none, zero, value))
