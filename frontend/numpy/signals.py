"""Sampled functions: interpolation, unwrapping, convolution, polynomials."""

from __future__ import annotations

import functools
import math
import operator
from typing import Any

import numpy as np

from weft.compiler.errors import UnsupportedError
from weft.compiler.ir import Node
from weft.compiler.types import DTYPES, Size
from weft.frontend.numpy.common import (
    Array,
    as_array,
    axis_of,
    build,
    lift,
    result,
    same_dtype,
    spread,
    ufunc,
)
from weft.frontend.numpy.joins import concatenate, part
from weft.frontend.numpy.linalg_core import contract
from weft.frontend.numpy.scans import diff
from weft.frontend.numpy.shapes import ravel
from weft.frontend.problems import problem, shape_error
from weft.frontend.table import implements
from weft.frontend.tracer import Tracer

__all__: list[str] = []


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
    node = b.select(b.gt(at, last), spread(high_value, at), node)
    node = b.select(b.lt(at, first), spread(low_value, at), node)
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
    return as_array(b.select(mask.node, spread(scalar, other.node), other.node))


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
    y: Any = as_array(spread(build().scalar(0, t.element), t.node)) if t.kind == "array" \
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
