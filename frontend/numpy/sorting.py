"""Order: sort, searchsorted, median, quantiles, membership, histograms."""

from __future__ import annotations

from typing import Any

import numpy as np

from weft.compiler.errors import UnsupportedError
from weft.compiler.ir import Node
from weft.compiler.types import DTYPES, numel
from weft.frontend.numpy.common import (
    Array,
    as_array,
    axes_of,
    axis_of,
    build,
    into,
    lift,
    result,
    same_dtype,
    ufunc,
)
from weft.frontend.numpy.joins import part
from weft.frontend.numpy.moves import flip
from weft.frontend.numpy.picks import along_axis
from weft.frontend.numpy.promote import common_type
from weft.frontend.numpy.reductions import count_node, fold, keep_axes
from weft.frontend.numpy.shapes import ravel
from weft.frontend.numpy.ufuncs import assign, check_writable
from weft.frontend.problems import dtype_error, problem, shape_error
from weft.frontend.table import implements, method
from weft.frontend.tracer import Tracer

__all__ = ["quantiles", "searchsorted", "sort"]

_STABLE = ("stable", "mergesort")


def _flat_or_axis(a: Array, axis: Any) -> tuple[Tracer, int]:
    x = lift(a)
    if axis is None:
        return ravel(x), 0
    return x, axis_of(axis, len(x.node.shape))


@implements(np.sort)
def sort(a: Array, axis: Any = -1, kind: Any = None, order: Any = None, *,
         stable: Any = None) -> Tracer:
    """`np.sort`."""
    x, i = _flat_or_axis(a, axis)
    return as_array(build().sort(x.node, axis=i, stable=bool(stable) or kind in _STABLE))


@implements(np.argsort, methods=("argsort",))
def argsort(a: Array, axis: Any = -1, kind: Any = None, order: Any = None, *,
            stable: Any = None) -> Tracer:
    """`np.argsort`."""
    x, i = _flat_or_axis(a, axis)
    return as_array(build().argsort(x.node, axis=i, stable=bool(stable) or kind in _STABLE))


@method("sort")
def _sort_method(x: Tracer, axis: Any = -1, kind: Any = None, order: Any = None, *,
                 stable: Any = None) -> None:
    check_writable(x, "x.sort()", "write x = np.sort(x)")
    assign(x, sort(x, axis, kind, order, stable=stable))


@implements(np.partition)
def _partition(a: Array, kth: Any, axis: Any = -1, kind: Any = "introselect",
               order: Any = None) -> Tracer:
    return sort(a, axis)


@method("partition")
def _partition_method(x: Tracer, kth: Any, axis: Any = -1, kind: Any = "introselect",
                      order: Any = None) -> None:
    check_writable(x, "x.partition()", "write x = np.partition(x, kth)")
    assign(x, sort(x, axis))


@implements(np.argpartition, methods=("argpartition",))
def _argpartition(a: Array, kth: Any, axis: Any = -1, kind: Any = "introselect",
                  order: Any = None) -> Tracer:
    return argsort(a, axis)


@implements(np.sort_complex)
def _sort_complex(a: Array) -> Tracer:
    x = sort(a)
    if x.element.is_complex:
        return x
    wanted = "c64" if x.element.name in ("i8", "u8", "i16", "u16") else "c128"
    return as_array(build().convert(x.node, wanted))


@implements(np.lexsort)
def _lexsort(keys: Any, axis: Any = -1) -> Tracer:
    xs = [lift(k).node for k in keys]
    i = axis_of(axis, len(xs[0].shape))
    b = build()
    order = b.argsort(xs[0], axis=i, stable=True)
    for key in xs[1:]:
        again = b.argsort(along_axis(key, order, i, "clip"), axis=i, stable=True)
        order = along_axis(order, again, i, "clip")
    return as_array(order)


# ---- searching

@implements(np.searchsorted, methods=("searchsorted",))
def searchsorted(a: Array, v: Array, side: str = "left", sorter: Any = None) -> Tracer:
    """`np.searchsorted`."""
    if side not in ("left", "right"):
        raise ValueError(f"search side must be one of 'left' or 'right' (got {side!r})")
    xs = [lift(a), lift(v)]
    line, values = same_dtype(xs)
    if line.dtype.is_complex:
        raise dtype_error("np.searchsorted of complex numbers is not traced")
    b = build()
    if sorter is not None:
        order = b.convert(lift(sorter).node, "i64")
        line = b.gather(line, order, axes=(0,), position=0, mode="raise")
    return result(b.searchsorted(line, values, side=side))


@implements(np.digitize)
def _digitize(x: Array, bins: Array, right: bool = False) -> Any:
    t, line = lift(x), lift(bins)
    if len(line.node.shape) != 1:
        raise shape_error("object too deep for desired array")
    side = "left" if right else "right"
    up = searchsorted(line, t, side)
    if type(bins) is not Tracer:
        known = np.asarray(bins)
        steps = np.diff(known)
        if np.all(steps >= 0):
            return up
        if not np.all(steps <= 0):
            raise shape_error("bins must be monotonically increasing or decreasing")
    n: Any = line.node.shape[0]
    other = "right" if right else "left"
    down = ufunc("subtract", n, searchsorted(flip(line), t, other))
    if type(bins) is not Tracer:
        return down
    b = build()
    last, first = (b.reshape(part(line.node, 0, i, i + 1), ()) for i in (n - 1, 0))
    return result(b.select(b.lt(last, first), down.node, up.node))


@implements(np.isin)
def _isin(element: Array, test_elements: Array, assume_unique: bool = False,
          invert: bool = False, *, kind: Any = None) -> Tracer:
    x, b = lift(element), build()
    line = ravel(test_elements)
    wide = as_array(b.reshape(x.node, (*x.node.shape, 1)))
    hit = ufunc("equal", wide, line)
    node = fold("reduce_or", hit.node, -1).node
    return as_array(b.not_(node) if invert else node)


# ---- median and quantiles

def _to_last(x: Node, axes: tuple[int, ...]) -> Node:
    """These axes flattened into one last axis."""
    b, shape = build(), x.shape
    rest = [i for i in range(len(shape)) if i not in axes]
    order = (*rest, *axes)
    node = b.transpose(x, perm=order) if order != tuple(range(len(shape))) else x
    return b.reshape(node, (*(shape[i] for i in rest), numel([shape[i] for i in axes])))


def _lerp(a: Node, c: Node, t: Node) -> Node:
    """a + (c - a)*t, exact at both ends; the difference in the element type of the data."""
    b = build()
    gap = b.convert(b.sub(c, a), t.dtype)
    a, c = b.convert(a, t.dtype), b.convert(c, t.dtype)
    low = b.add_(a, b.mul(gap, t))
    high = b.sub(c, b.mul(gap, b.sub(b.scalar(1, t.dtype), t)))
    return b.select(b.ge(t, b.broadcast(b.scalar(0.5, t.dtype), t.shape)), high, low)


def _positions(method_: str, q: Node, top: Node) -> tuple[Node, Node, Node]:
    """Indices below and above the quantile, and the weight of the one above."""
    b = build()
    at = b.mul(q, b.broadcast(top, q.shape) if top.shape != q.shape else top)
    low = b.floor(at)
    high = b.minimum(b.add_(low, b.scalar(1, q.dtype)), top)
    weight = b.sub(at, low)
    if method_ == "lower":
        weight = b.mul(weight, b.scalar(0, q.dtype))
    elif method_ == "higher":
        weight = b.convert(b.gt(weight, b.scalar(0, q.dtype)), q.dtype)
    elif method_ == "midpoint":
        some = b.convert(b.gt(weight, b.scalar(0, q.dtype)), q.dtype)
        weight = b.mul(some, b.scalar(0.5, q.dtype))
    elif method_ == "nearest":
        weight = b.sub(b.rint(at), low)
    return low, high, weight


_METHODS = ("linear", "lower", "higher", "midpoint", "nearest")


def quantiles(a: Array, q: Array, axis: Any, out: Any, method_: str, keepdims: Any,
              skip_nan: bool) -> Any:
    """Quantiles `q` in [0, 1] over `axis`: the axes of `q` come first in the result."""
    if method_ not in _METHODS:
        raise problem(UnsupportedError, f"quantiles by method {method_!r} are not traced",
                      expected=", ".join(_METHODS))
    b, x = build(), lift(a)
    axes = axes_of(axis, len(x.node.shape))
    if x.element.is_complex:
        raise TypeError("a must be an array of real numbers")
    qs = lift(q)
    dtype = x.element if x.element.is_float else DTYPES["f64"]
    if not qs.weak:
        dtype = common_type((dtype, qs.element))
    whole = method_ in ("lower", "higher", "nearest")
    node = x.node if x.element.is_float else b.convert(x.node, dtype)
    data = b.sort(_to_last(node, axes), axis=len(x.node.shape) - len(axes),
                  stable=False)
    line = b.convert(qs.node, dtype)
    node = _quantile_nodes(data, line, method_, skip_nan)
    if keepdims:
        full = tuple(1 if i in axes else d for i, d in enumerate(x.node.shape))
        node = b.reshape(node, (*line.shape, *full))
    if whole and x.element.kind != "float":
        node = b.convert(node, x.element)
    return into(out, result(node))


def _quantile_nodes(data: Node, qs: Node, method_: str, skip_nan: bool) -> Node:
    """`data` is sorted along its last axis, NaN last."""
    b, rest = build(), data.shape[:-1]
    rank, n = len(rest), data.shape[-1]
    flat = b.reshape(qs, (qs.tensor.size,))
    shape = (*rest, flat.shape[0])
    wide_q = b.broadcast(flat, shape, (rank,))
    dtype = qs.dtype
    if skip_nan:
        valid = fold("reduce_sum", b.convert(b.not_(b.is_nan(data)), dtype), -1).node
        top = b.maximum(b.sub(valid, b.scalar(1, dtype)), b.scalar(0, dtype))
        top = b.broadcast(b.reshape(top, (*rest, 1)), shape)
    else:
        top = b.broadcast(count_node(n - 1, dtype), shape)
    low, high, weight = _positions(method_, wide_q, top)
    ends = [along_axis(data, b.convert(i, "i64"), rank, "clip") for i in (low, high)]
    node = _lerp(ends[0], ends[1], weight)
    if not skip_nan:                               # a NaN anywhere sorts last
        last = b.reshape(part(data, rank, n - 1, n), rest)
        last = b.broadcast(last, shape, tuple(range(rank)))
        node = b.select(b.is_nan(last), b.convert(last, dtype), node)
    node = b.transpose(node, perm=(rank, *range(rank))) if rank else node
    return b.reshape(node, (*qs.shape, *rest))


def _percent(q: Array) -> Tracer:
    if type(q) is Tracer:
        return lift(q / 100.0)
    return lift(q / 100.0 if isinstance(q, (int, float)) else np.true_divide(q, 100.0))


def _quantile_function(scale: bool, skip_nan: bool) -> Any:
    def run(a: Array, q: Array, axis: Any = None, out: Any = None, overwrite_input: bool = False,
            method: str = "linear", keepdims: Any = False, *, weights: Any = None,
            **old: Any) -> Any:
        if weights is not None:
            raise problem(UnsupportedError, "quantiles with weights are not traced")
        if keepdims is np._NoValue:
            keepdims = False
        qs = _percent(q) if scale else lift(q)
        return quantiles(a, qs, axis, out, method, keepdims, skip_nan)
    return run


implements(np.percentile)(_quantile_function(True, False))
implements(np.quantile)(_quantile_function(False, False))
implements(np.nanpercentile)(_quantile_function(True, True))
implements(np.nanquantile)(_quantile_function(False, True))


@implements(np.median)
def _median(a: Array, axis: Any = None, out: Any = None, overwrite_input: bool = False,
            keepdims: Any = False) -> Any:
    b, x = build(), lift(a)
    axes = axes_of(axis, len(x.node.shape))
    data = _to_last(x.node if x.element.is_inexact else b.convert(x.node, "f64"), axes)
    rank, n = len(data.shape) - 1, data.shape[-1]
    if not isinstance(n, int):
        return quantiles(a, 0.5, axis, out, "linear", keepdims, False)
    data = b.sort(data, axis=rank, stable=False)
    if n == 0:
        node = b.broadcast(b.scalar(np.nan, data.dtype), data.shape[:-1])
    else:
        middle = [b.reshape(part(data, rank, i, i + 1), data.shape[:-1])
                  for i in {(n - 1) // 2, n // 2}]
        node = middle[0]
        if len(middle) == 2:
            node = b.div(b.add_(*middle), b.scalar(2, data.dtype))
        last = b.reshape(part(data, rank, n - 1, n), data.shape[:-1])
        node = b.select(b.is_nan(last), last, node)
    if keepdims and keepdims is not np._NoValue:
        node = keep_axes(node, x.node.shape, axes)
    return into(out, result(node))


@implements(np.nanmedian)
def _nanmedian(a: Array, axis: Any = None, out: Any = None, overwrite_input: bool = False,
               keepdims: Any = False) -> Any:
    keep = bool(keepdims) and keepdims is not np._NoValue
    return quantiles(a, 0.5, axis, out, "midpoint", keep, True)
