"""Running sums and products, differences and integrals along an axis."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

from weft.compiler.errors import UnsupportedError
from weft.compiler.types import DTYPES, Size
from weft.frontend.numpy.common import (
    Array,
    as_array,
    axes_of,
    axis_of,
    build,
    element,
    into,
    lift,
    ufunc,
)
from weft.frontend.numpy.joins import concatenate, part
from weft.frontend.numpy.reductions import accumulator, fold
from weft.frontend.numpy.shapes import ravel
from weft.frontend.problems import problem, shape_error
from weft.frontend.table import implements
from weft.frontend.tracer import Tracer

__all__ = ["scan"]


def scan(op: str, a: Array, axis: Any, dtype: Any, out: Any = None) -> Any:
    """A running reduction by the primitive `op`; over the flattened array if axis is None."""
    x, b = lift(a), build()
    if axis is None:
        x, axis = ravel(x), 0
    if not x.node.shape:
        x, axis = ravel(x), axis_of(axis, 1)
    wanted = element(dtype) if dtype is not None else accumulator(x.element)
    if dtype is None and out is not None:
        wanted = out.element
    node = b.convert(x.node, wanted)
    a_ = axis_of(axis, len(node.shape))
    return into(out, as_array(b.add(op, node, axis=a_)))


@implements(np.cumsum, methods=("cumsum",))
def _cumsum(a: Array, axis: Any = None, dtype: Any = None, out: Any = None) -> Any:
    return scan("cumsum", a, axis, dtype, out)


@implements(np.cumprod, methods=("cumprod",))
def _cumprod(a: Array, axis: Any = None, dtype: Any = None, out: Any = None) -> Any:
    return scan("cumprod", a, axis, dtype, out)


def _cumulative(op: str, start: int) -> Any:
    def run(x: Array, /, *, axis: Any = None, dtype: Any = None, out: Any = None,
            include_initial: bool = False) -> Any:
        t = lift(x)
        if axis is None:
            if len(t.node.shape) > 1:
                raise shape_error("For arrays which have more than one dimension ``axis`` argument "
                                  "is required.")
            axis = 0
        value = scan(op, t, axis, dtype)
        if include_initial:
            a = axis_of(axis, len(value.node.shape))
            shape = tuple(1 if i == a else d for i, d in enumerate(value.node.shape))
            b = build()
            first = as_array(b.broadcast(b.scalar(start, value.element), shape))
            value = concatenate([first, value], a)
        return into(out, value)
    return run


implements(np.cumulative_sum)(_cumulative("cumsum", 0))
implements(np.cumulative_prod)(_cumulative("cumprod", 1))


def _without_nan(a: Array, value: int) -> Tracer:
    x, b = lift(a), build()
    if not x.element.is_inexact:
        return x
    nan = b.is_nan(x.node)
    return as_array(b.select(nan, b.scalar(value, x.element), x.node))


@implements(np.nancumsum)
def _nancumsum(a: Array, axis: Any = None, dtype: Any = None, out: Any = None) -> Any:
    return scan("cumsum", _without_nan(a, 0), axis, dtype, out)


@implements(np.nancumprod)
def _nancumprod(a: Array, axis: Any = None, dtype: Any = None, out: Any = None) -> Any:
    return scan("cumprod", _without_nan(a, 1), axis, dtype, out)


# ---- differences

@implements(np.diff)
def diff(a: Array, n: Any = 1, axis: Any = -1, prepend: Any = np._NoValue,
         append: Any = np._NoValue) -> Any:
    """`np.diff`."""
    x, times = lift(a), operator.index(n)
    if times == 0:
        return x
    if times < 0:
        raise ValueError(f"order must be non-negative but got {times!r}")
    rank = len(x.node.shape)
    if rank == 0:
        raise shape_error("diff requires input that is at least one dimensional")
    i = axis_of(axis, rank)
    x = _extended(x, i, prepend, append)
    for _ in range(times):
        x = _one_difference(x, i)
    return as_array(x.node)


def _extended(x: Tracer, axis: int, prepend: Any, append: Any) -> Tracer:
    b, parts = build(), [x]
    for side, value in ((0, prepend), (1, append)):
        if value is np._NoValue:
            continue
        node = lift(value).node
        if node.shape == ():
            node = b.broadcast(node, tuple(1 if k == axis else d
                                           for k, d in enumerate(x.node.shape)))
        parts.insert(len(parts) if side else 0, as_array(node))
    return concatenate(parts, axis) if len(parts) > 1 else x


def _one_difference(x: Tracer, axis: int) -> Tracer:
    size = x.node.shape[axis]
    if isinstance(size, int) and size < 2:
        return as_array(part(x.node, axis, 0, 0))
    ahead = as_array(part(x.node, axis, 1, size))
    behind = as_array(part(x.node, axis, 0, size - 1))
    name = "not_equal" if x.element.kind == "bool" else "subtract"
    return ufunc(name, ahead, behind)  # type: ignore[no-any-return]


@implements(np.ediff1d)
def _ediff1d(ary: Array, to_end: Any = None, to_begin: Any = None) -> Any:
    x = ravel(ary)
    parts = [_one_difference(x, 0)]
    for at, extra in ((0, to_begin), (len(parts) + 1, to_end)):
        if extra is not None:
            node = build().convert(ravel(extra).node, x.element)
            parts.insert(at, as_array(node))
    return concatenate(parts) if len(parts) > 1 else parts[0]


@implements(np.trapezoid)
def _trapezoid(y: Array, x: Any = None, dx: Any = 1.0, axis: Any = -1) -> Any:
    t = lift(y)
    i = axis_of(axis, len(t.node.shape))
    size = t.node.shape[i]
    width: Any = dx
    if x is not None:
        points = lift(x)
        width = diff(points, axis=0 if len(points.node.shape) == 1 else i)
        if len(points.node.shape) == 1:
            shape = tuple(width.node.shape[0] if k == i else 1 for k in range(len(t.node.shape)))
            width = as_array(build().reshape(width.node, shape))
    ahead, behind = as_array(part(t.node, i, 1, size)), as_array(part(t.node, i, 0, size - 1))
    area = ufunc("divide", ufunc("multiply", width, ufunc("add", ahead, behind)), 2.0)
    return fold("reduce_sum", area.node, i)


# ---- gradient

@implements(np.gradient)
def _gradient(f: Array, *varargs: Any, axis: Any = None, edge_order: Any = 1) -> Any:
    x, rank = lift(f), len(lift(f).node.shape)
    axes = axes_of(axis, rank)
    if len(varargs) == 0:
        steps: list[Any] = [1.0] * len(axes)
    elif len(varargs) == 1 and not len(lift(varargs[0]).node.shape):
        steps = [varargs[0]] * len(axes)
    elif len(varargs) == len(axes):
        steps = list(varargs)
    else:
        raise TypeError("invalid number of arguments")
    if edge_order > 2:
        raise ValueError("'edge_order' greater than 2 not supported")
    if not x.element.is_inexact:
        x = as_array(build().convert(x.node, "f64"))
    out = tuple(_slope(x, a, h, edge_order) for a, h in zip(axes, steps))
    return out[0] if len(out) == 1 else out


def _slope(x: Tracer, axis: int, h: Any, edge_order: int) -> Tracer:
    size = x.node.shape[axis]
    if isinstance(size, Size):
        raise problem(UnsupportedError, f"np.gradient along an axis of symbolic size {size}",
                      repair="compile for a fixed size")
    if size < edge_order + 1:
        raise shape_error("Shape of array too small to calculate a numerical gradient, at least "
                          "(edge_order + 1) elements are required.")
    spacing = lift(h)
    if spacing.node.shape:
        return _uneven(x, axis, _widths(x, axis, spacing), edge_order)

    def at(i: int, j: int) -> Tracer:
        return as_array(part(x.node, axis, i, j))
    inner = (at(2, size) - at(0, size - 2)) / (2.0 * spacing)
    if edge_order == 1:
        first = (at(1, 2) - at(0, 1)) / spacing
        last = (at(size - 1, size) - at(size - 2, size - 1)) / spacing
    else:
        a, b, c = -1.5 / spacing, 2.0 / spacing, -0.5 / spacing
        first = a * at(0, 1) + b * at(1, 2) + c * at(2, 3)
        a, b, c = 0.5 / spacing, -2.0 / spacing, 1.5 / spacing
        last = a * at(size - 3, size - 2) + b * at(size - 2, size - 1) + c * at(size - 1, size)
    return _joined([first, inner, last], axis, x)


def _joined(parts: list[Any], axis: int, x: Tracer) -> Tracer:
    b = build()
    nodes = [as_array(b.convert(p.node, x.element)) for p in parts]
    return concatenate(nodes, axis)  # type: ignore[no-any-return]


def _widths(x: Tracer, axis: int, points: Tracer) -> Tracer:
    if points.node.shape != (x.node.shape[axis],):
        raise shape_error("when 1d, distances must match the length of the corresponding dimension")
    if points.element.is_integer:
        points = as_array(build().convert(points.node, DTYPES["f64"]))
    width = _one_difference(points, 0)
    shape = tuple(width.node.shape[0] if k == axis else 1 for k in range(len(x.node.shape)))
    return as_array(build().reshape(width.node, shape))


def _uneven(x: Tracer, axis: int, d: Tracer, edge_order: int) -> Tracer:
    size: Any = x.node.shape[axis]

    def at(i: int, j: int) -> Any:
        return as_array(part(x.node, axis, i, j))

    def gap(i: int, j: int) -> Any:
        return as_array(part(d.node, axis, i, j))
    p, q = gap(0, size - 2), gap(1, size - 1)
    inner = -q / (p * (p + q)) * at(0, size - 2) + (q - p) / (p * q) * at(1, size - 1) \
        + p / (q * (p + q)) * at(2, size)
    if edge_order == 1:
        first = (at(1, 2) - at(0, 1)) / gap(0, 1)
        last = (at(size - 1, size) - at(size - 2, size - 1)) / gap(size - 2, size - 1)
        return _joined([first, inner, last], axis, x)
    p, q = gap(0, 1), gap(1, 2)
    first = -(2.0 * p + q) / (p * (p + q)) * at(0, 1) + (p + q) / (p * q) * at(1, 2) \
        + -p / (q * (p + q)) * at(2, 3)
    p, q = gap(size - 3, size - 2), gap(size - 2, size - 1)
    last = q / (p * (p + q)) * at(size - 3, size - 2) \
        + -(q + p) / (p * q) * at(size - 2, size - 1) \
        + (2.0 * q + p) / (q * (p + q)) * at(size - 1, size)
    return _joined([first, inner, last], axis, x)
