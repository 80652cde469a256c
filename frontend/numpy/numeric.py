"""Functions composed of others: rounding, interpolation, convolution, polynomials, covariance."""

from __future__ import annotations

import functools
import math
import operator
from typing import Any

import numpy as np

from weft.compiler.build import Builder
from weft.compiler.errors import UnsupportedError
from weft.compiler.ir import Node
from weft.compiler.types import DTYPES, Size, dtype_of
from weft.frontend.numpy.common import (
    Array,
    as_array,
    axis_of,
    build,
    into,
    lift,
    result,
    same_dtype,
    ufunc,
)
from weft.frontend.numpy.creation import diagonal_node
from weft.frontend.numpy.joins import concatenate, part
from weft.frontend.numpy.linalg_core import contract, dot
from weft.frontend.numpy.reductions import mean
from weft.frontend.numpy.scans import diff
from weft.frontend.numpy.shapes import ravel, transpose
from weft.frontend.problems import problem, shape_error
from weft.frontend.table import implements, method
from weft.frontend.tracer import Tracer

__all__ = ["round_"]


# ---- rounding

@implements(np.round, np.around)
def round_(a: Array, decimals: Any = 0, out: Any = None) -> Any:
    """`np.round`: halves to even, at a power of ten."""
    x, places = lift(a), operator.index(decimals)
    b, node = build(), x.node
    if x.element.is_complex:
        parts = [_rounded(p, places) for p in (b.real(node), b.imag(node))]
        return into(out, result(b.complex(*parts)))
    if x.element.is_integer:
        if places < 0:
            scale = b.scalar(10.0 ** -places, "f64")
            wide = b.mul(b.rint(b.div(b.convert(node, "f64"), scale)), scale)
            node = b.convert(wide, x.element)
        return into(out, result(node))
    if x.element.kind == "bool":
        node = b.convert(node, "f16")
    return into(out, result(_rounded(node, places)))


def _rounded(node: Node, places: int) -> Node:
    b = build()
    if places == 0:
        return b.rint(node)
    scale = b.scalar(10.0 ** abs(places), node.dtype)
    if places > 0:
        return b.div(b.rint(b.mul(node, scale)), scale)
    return b.mul(b.rint(b.div(node, scale)), scale)


@method("round")
def _round_method(x: Tracer, decimals: Any = 0, out: Any = None) -> Any:
    return round_(x, decimals, out)


@implements(np.fix)
def _fix(x: Array, out: Any = None) -> Any:
    return into(out, ufunc("trunc", x))


@implements(np.nan_to_num)
def _nan_to_num(x: Array, copy: bool = True, nan: Any = 0.0, posinf: Any = None,
                neginf: Any = None) -> Any:
    t, b = lift(x), build()
    if t.element.is_complex:
        parts = [_finite(p, nan, posinf, neginf) for p in (b.real(t.node), b.imag(t.node))]
        return result(b.complex(*parts))
    return result(_finite(t.node, nan, posinf, neginf) if t.element.is_float else t.node)


def _finite(node: Node, nan: Any, posinf: Any, neginf: Any) -> Node:
    b, info = build(), np.finfo(node.dtype.numpy)
    values = [nan, info.max if posinf is None else posinf, info.min if neginf is None else neginf]
    zero, up, down = (b.convert(lift(v).node, node.dtype) for v in values)
    sign = b.lt(node, b.scalar(0, node.dtype))
    infinite = b.select(sign, _wide(down, node), _wide(up, node))
    finite = b.select(b.is_inf(node), infinite, node)
    return b.select(b.is_nan(node), zero, finite)


def _wide(value: Node, like: Node) -> Node:
    return build().broadcast(value, like.shape)


@implements(np.isposinf)
def _isposinf(x: Array, out: Any = None) -> Any:
    return _signed_inf(x, out, False)


@implements(np.isneginf)
def _isneginf(x: Array, out: Any = None) -> Any:
    return _signed_inf(x, out, True)


def _signed_inf(x: Array, out: Any, negative: bool) -> Any:
    t = lift(x)
    if t.element.is_complex:
        raise TypeError("This operation is not supported for complex128 values because it would "
                        "be ambiguous.")
    sign = ufunc("signbit", t) if t.element.is_float else ufunc("less", t, 0)
    sign = sign if negative else ufunc("logical_not", sign)
    return into(out, ufunc("logical_and", ufunc("isinf", t), sign))


# ---- complex numbers

@implements(np.angle)
def _angle(z: Array, deg: bool = False) -> Any:
    x, b = lift(z), build()
    if x.element.is_complex:
        re, im = result(b.real(x.node)), result(b.imag(x.node))
    else:
        re, im = x, lift(0)
    out = ufunc("arctan2", im, re)
    return ufunc("multiply", out, 180 / math.pi) if deg else out


@implements(np.isreal)
def _isreal(x: Array) -> Any:
    t, b = lift(x), build()
    if not t.element.is_complex:
        return result(b.broadcast(b.scalar(True, "bool"), t.node.shape))
    im = b.imag(t.node)
    return result(b.eq(im, b.scalar(0, im.dtype)))


@implements(np.iscomplex)
def _iscomplex(x: Array) -> Any:
    t, b = lift(x), build()
    if not t.element.is_complex:
        return result(b.broadcast(b.scalar(False, "bool"), t.node.shape))
    im = b.imag(t.node)
    return result(b.ne(im, b.scalar(0, im.dtype)))


# ---- special functions

@implements(np.sinc)
def _sinc(x: Array) -> Any:
    t, b = lift(x), build()
    y = ufunc("multiply", math.pi, t) if t.element.is_inexact else as_array(
        b.mul(b.convert(t.node, "f64"), b.scalar(math.pi, "f64")))
    zero = b.eq(y.node, b.scalar(0, y.element))
    eps = b.scalar(np.finfo(y.element.numpy).eps, y.element)
    safe = b.select(zero, _wide(eps, y.node), y.node)
    return result(b.div(b.sin(safe), safe))


@functools.cache
def _bessel_series() -> tuple[list[float], list[float]]:
    """Chebyshev coefficients of exp(-x)*I0(x) on [0, 8] and, times sqrt(x), beyond."""
    fit = np.polynomial.chebyshev.chebinterpolate

    def near(t: Any) -> Any:
        x = 4 * (t + 1)
        return np.exp(-x) * np.i0(x)

    def far(t: Any) -> Any:
        x = 16 / (t + 1)
        small = np.minimum(x, 600.0)
        return np.where(x > 600, _i0_tail(x), np.exp(-small) * np.i0(small) * np.sqrt(small))
    return fit(near, 29).tolist(), fit(far, 24).tolist()


def _i0_tail(x: Any) -> Any:
    """The asymptotic series of exp(-x)*I0(x)*sqrt(x)."""
    r = 1 / (8 * x)
    return (1 + r + 4.5 * r * r + 37.5 * r ** 3) / math.sqrt(2 * math.pi)


def _clenshaw(b: Builder, t: Node, coefficients: list[float]) -> Node:
    ahead = later = b.broadcast(b.scalar(0, t.dtype), t.shape)
    twice = b.add_(t, t)
    for c in coefficients[:0:-1]:
        ahead, later = b.add_(b.sub(b.mul(twice, ahead), later), b.scalar(c, t.dtype)), ahead
    return b.add_(b.sub(b.mul(t, ahead), later), b.scalar(coefficients[0], t.dtype))


@implements(np.i0)
def _i0(x: Array) -> Any:
    t, b = lift(x), build()
    if t.element.is_complex:
        raise TypeError("i0 not supported for complex values")
    node = b.abs(t.node if t.element.is_float else b.convert(t.node, "f64"))
    near, far = _bessel_series()
    one, eight = b.scalar(1, node.dtype), b.scalar(8, node.dtype)
    low = _clenshaw(b, b.sub(b.div(b.minimum(node, eight), b.scalar(4, node.dtype)), one), near)
    big = b.maximum(node, eight)
    high = b.div(_clenshaw(b, b.sub(b.div(b.scalar(16, node.dtype), big), one), far), b.sqrt(big))
    return as_array(b.mul(b.exp(node), b.select(b.le(node, eight), low, high)))


# ---- interpolation, unwrapping

@implements(np.interp)
def _interp(x: Array, xp: Array, fp: Array, left: Any = None, right: Any = None,
            period: Any = None) -> Any:
    b, t = build(), lift(x)
    at, knots = (b.convert(lift(v).node, "f64") for v in (x, xp))
    values = lift(fp).node
    values = b.convert(values, "c128" if values.dtype.is_complex else "f64")
    if len(knots.shape) != 1 or knots.shape != values.shape:
        raise shape_error("fp and xp are not of the same length.", "two 1-d arrays of one length, "
                          f"got {knots.tensor} and {values.tensor}")
    if period is not None:
        at, knots, values = _periodic(at, knots, values, period)
        left = right = None
    node = _interpolated(at, knots, values, left, right)
    return Tracer(t.tape, node, "array" if node.shape else "scalar")


def _periodic(at: Node, knots: Node, values: Node, period: Any) -> tuple[Node, Node, Node]:
    b = build()
    span = b.abs(b.convert(lift(period).node, "f64"))
    at, knots = b.remainder(at, span), b.remainder(knots, span)
    order = b.argsort(knots, axis=0, stable=False)
    knots, values = (b.gather(n, order, axes=(0,), position=0, mode="clip")
                     for n in (knots, values))
    n: Any = knots.shape[0]
    ends = [b.sub(part(knots, 0, n - 1, n), span), b.add_(part(knots, 0, 0, 1), span)]
    return (at, b.concatenate(ends[0], knots, ends[1], axis=0),
            b.concatenate(part(values, 0, n - 1, n), values, part(values, 0, 0, 1), axis=0))


def _interpolated(at: Node, knots: Node, values: Node, left: Any, right: Any) -> Node:
    b = build()
    n: Any = knots.shape[0]
    first, last = (b.reshape(part(knots, 0, i, i + 1), ()) for i in (0, n - 1))
    low_value, high_value = (b.reshape(part(values, 0, i, i + 1), ()) for i in (0, n - 1))
    low_value, high_value = (
        v if given is None else b.convert(lift(given).node, values.dtype)
        for given, v in ((left, low_value), (right, high_value)))
    one = b.scalar(1, "i64")
    j = b.sub(b.searchsorted(knots, at, side="right"), one)
    j = b.minimum(b.maximum(j, b.scalar(0, "i64")), b.scalar(max(n - 2, 0), "i64"))
    k = b.minimum(b.add_(j, one), b.scalar(n - 1, "i64"))
    pick = functools.partial(b.gather, axes=(0,), position=0, mode="clip")
    x0, x1, y0, y1 = pick(knots, j), pick(knots, k), pick(values, j), pick(values, k)
    slope = _by(b.sub(y1, y0), b.sub(x1, x0), "div")
    node = b.add_(_by(slope, b.sub(at, x0), "mul"), y0)
    if not values.dtype.is_complex:
        other = b.add_(b.mul(slope, b.sub(at, x1)), y1)
        flat = b.select(b.eq(y0, y1), y0, other)
        node = b.select(b.is_nan(node), b.select(b.is_nan(other), flat, other), node)
    node = b.select(b.eq(at, x0), y0, node)
    node = b.select(b.eq(at, last), b.broadcast(pick(values, b.scalar(n - 1, "i64")), at.shape),
                    node)
    node = b.select(b.gt(at, last), _wide(high_value, at), node)
    node = b.select(b.lt(at, first), _wide(low_value, at), node)
    nan = b.convert(at, values.dtype)
    return b.select(b.is_nan(at), nan, node)


def _by(z: Node, x: Node, op: str) -> Node:
    """A complex or real number times or over a real one, part by part."""
    b = build()
    if not z.dtype.is_complex:
        return b.add(op, z, x)
    return b.complex(b.add(op, b.real(z), x), b.add(op, b.imag(z), x))


@implements(np.unwrap)
def _unwrap(p: Array, discont: Any = None, axis: Any = -1, *, period: Any = 2 * math.pi) -> Any:
    x = lift(p)
    i = axis_of(axis, len(x.node.shape))
    step = diff(x, axis=i)
    discont = period / 2 if discont is None else discont
    dtype = np.result_type(step.dtype, period)
    whole = np.issubdtype(dtype, np.integer)
    high, extra = divmod(period, 2) if whole else (period / 2, 0)
    low = -high
    wrapped = ufunc("add", ufunc("remainder", ufunc("subtract", step, low), period), low)
    if not whole or extra == 0:
        edge = ufunc("logical_and", ufunc("equal", wrapped, low), ufunc("greater", step, 0))
        wrapped = _choose(edge, high, wrapped)
    correction = ufunc("subtract", wrapped, step)
    correction = _choose(ufunc("less", ufunc("absolute", step), discont), 0, correction)
    b = build()
    total = as_array(b.cumsum(correction.node, axis=i))
    size = x.node.shape[i]
    tail = ufunc("add", as_array(part(x.node, i, 1, size)), total)
    head = as_array(b.convert(part(x.node, i, 0, 1), tail.element))
    return concatenate([head, tail], i)


def _choose(mask: Tracer, value: Any, other: Tracer) -> Tracer:
    b = build()
    scalar = b.convert(lift(value).node, other.element)
    return as_array(b.select(mask.node, _wide(scalar, other.node), other.node))


# ---- convolution

_WINDOW = 32      # up to this many taps, a sum of shifted products


@implements(np.convolve)
def _convolve(a: Array, v: Array, mode: str = "full") -> Any:
    x, y = same_dtype([as_array(ravel(n).node) for n in (lift(a), lift(v))])
    return _slid(x, build().reverse(y, axes=(0,)), mode, swap=True)


@implements(np.correlate)
def _correlate(a: Array, v: Array, mode: str = "valid") -> Any:
    x, y = same_dtype([as_array(ravel(n).node) for n in (lift(a), lift(v))])
    b = build()
    y = b.conj(y) if y.dtype.is_complex else y
    flipped: Any = x.shape[0] < y.shape[0]  # type: ignore[operator]
    if not flipped:
        return _slid(x, y, mode)
    out = _slid(y, x, mode)
    return as_array(b.reverse(out.node, axes=(0,)))


def _slid(x: Node, taps: Node, mode: str, swap: bool = False) -> Tracer:
    """Sums of products of `taps` with every window of `x`."""
    n: Any = x.shape[0]
    m: Any = taps.shape[0]
    if isinstance(m, Size):
        raise problem(UnsupportedError, f"a convolution with {m} taps, a symbolic size",
                      repair="compile for a fixed size")
    if n == 0 or m == 0:
        raise shape_error("a cannot be empty" if n == 0 else "v cannot be empty")
    if swap and n < m:
        b = build()
        x, taps = b.reverse(taps, axes=(0,)), b.reverse(x, axes=(0,))
        n, m = m, n
    if mode not in ("full", "same", "valid"):
        raise ValueError(f"mode must be one of 'full', 'same', or 'valid' (got {mode!r})")
    low, high = {"full": (m - 1, m - 1), "same": (m // 2, m - 1 - m // 2), "valid": (0, 0)}[mode]
    return as_array(_windows(_padded(x, low, high), taps, n + low + high - m + 1))


def _padded(x: Node, low: int, high: int) -> Node:
    b = build()
    return b.pad(x, b.scalar(0, x.dtype), low=(low,), high=(high,)) if low or high else x


def _windows(x: Node, taps: Node, count: int) -> Node:
    b = build()
    m: Any = taps.shape[0]
    if m > _WINDOW or x.dtype.kind == "bool":
        at = b.add_(b.iota(shape=(count, m), axis=0, dtype=DTYPES["i64"]),
                    b.iota(shape=(count, m), axis=1, dtype=DTYPES["i64"]))
        rows = b.gather(x, at, axes=(0,), position=0, mode="clip")
        return contract(rows, taps, ((1,), (0,)))
    total = None
    for k in range(m):
        tap = b.broadcast(b.reshape(part(taps, 0, k, k + 1), ()), (count,))
        term = b.mul(part(x, 0, k, k + count), tap)
        total = term if total is None else b.add_(total, term)
    assert total is not None
    return total


# ---- polynomials

@implements(np.polyval)
def _polyval(p: Array, x: Array) -> Any:
    coefficients, t = lift(p), lift(x)
    y: Any = as_array(_wide(build().scalar(0, t.element), t.node)) if t.kind == "array" \
        else result(build().scalar(0, t.element))
    for k in range(len(coefficients)):
        y = ufunc("add", ufunc("multiply", y, t), coefficients[k])
    return y


def _aligned_sum(name: str) -> Any:
    def run(a1: Array, a2: Array) -> Any:
        xs = [ravel(lift(v)) for v in (a1, a2)]
        n = max(x.node.shape[0] for x in xs)  # type: ignore[type-var]
        b = build()
        wide = [as_array(b.pad(x.node, b.scalar(0, x.element), low=(n - x.node.shape[0],),
                               high=(0,))) for x in xs]
        return ufunc(name, *wide)
    return run


implements(np.polyadd)(_aligned_sum("add"))
implements(np.polysub)(_aligned_sum("subtract"))
implements(np.polymul)(_convolve)


@implements(np.polyder)
def _polyder(p: Array, m: Any = 1) -> Any:
    x = ravel(lift(p))
    for _ in range(operator.index(m)):
        n: Any = x.node.shape[0]
        if n == 0:
            break
        x = ufunc("multiply", as_array(part(x.node, 0, 0, n - 1)), np.arange(n - 1, 0, -1))
    return x


@implements(np.polyint)
def _polyint(p: Array, m: Any = 1, k: Any = None) -> Any:
    x = ravel(lift(p))
    count = operator.index(m)
    constants: Any = [0.0] * count if k is None else k
    if not isinstance(constants, (list, tuple)):
        constants = [constants] * count
    b = build()
    for i in range(count):
        n: Any = x.node.shape[0]
        body = ufunc("divide", x, np.arange(n, 0, -1))
        x = concatenate([body, as_array(b.reshape(lift(constants[i]).node, (1,)))])
    return x


# ---- covariance

@implements(np.cov)
def cov(m: Array, y: Any = None, rowvar: bool = True, bias: bool = False, ddof: Any = None,
        fweights: Any = None, aweights: Any = None, *, dtype: Any = None) -> Any:
    """`np.cov`."""
    if fweights is not None or aweights is not None:
        raise problem(UnsupportedError, "np.cov with weights is not traced",
                      repair="use np.average to take weighted means")
    b = build()
    xs = [lift(v) for v in ((m,) if y is None else (m, y))]
    wide = np.result_type(*(x.dtype if not x.weak else x.element.numpy for x in xs), np.float64)
    wanted = dtype_of(wide if dtype is None else dtype)
    rows = []
    for x in xs:
        node = b.convert(x.node, wanted)
        node = b.reshape(node, (1, *node.shape)) if len(node.shape) == 1 else node
        if not rowvar and len(x.node.shape) == 2:
            node = b.transpose(node, perm=(1, 0))
        rows.append(as_array(node))
    data = concatenate(rows, 0) if len(rows) > 1 else rows[0]
    ddof = (0 if bias else 1) if ddof is None else ddof
    return _covariance(data, ddof)


def _covariance(data: Tracer, ddof: int) -> Any:
    n: Any = data.node.shape[1]
    centred = ufunc("subtract", data, mean(data, 1, keepdims=True))
    turned = transpose(centred)
    product = dot(centred, ufunc("conjugate", turned) if turned.element.is_complex else turned)
    out = ufunc("multiply", product, 1 / np.float64(n - ddof) if n > ddof else math.nan)
    keep = [d for d in out.node.shape if d != 1]
    return as_array(build().reshape(out.node, tuple(keep)))


@implements(np.corrcoef)
def _corrcoef(x: Array, y: Any = None, rowvar: bool = True, *, dtype: Any = None) -> Any:
    c = cov(x, y, rowvar, dtype=dtype)
    if not c.node.shape:
        return ufunc("divide", c, c)
    b = build()
    n: Any = c.node.shape[0]
    diagonal = diagonal_node(c.node, 0, 0, 1)
    spread = ufunc("sqrt", as_array(b.real(diagonal) if c.element.is_complex else diagonal))
    c = ufunc("divide", c, as_array(b.reshape(spread.node, (n, 1))))
    c = ufunc("divide", c, as_array(b.reshape(spread.node, (1, n))))
    if c.element.is_complex:
        return as_array(b.complex(*(_unit(p) for p in (b.real(c.node), b.imag(c.node)))))
    return as_array(_unit(c.node))


def _unit(x: Node) -> Node:
    """Clipped to [-1, 1], where rounding left it."""
    b = build()
    return b.minimum(b.maximum(x, b.scalar(-1, x.dtype)), b.scalar(1, x.dtype))
