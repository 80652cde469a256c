"""Reductions: sum, max, mean, var and their like, over any axes."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from weft.compiler.ir import Node
from weft.compiler.types import DTYPES, Dim, DType, Shape, dtype_of
from weft.frontend.numpy.common import (
    Array,
    as_array,
    axes_of,
    build,
    count_of,
    into,
    lift,
    result,
    root,
    the_trace,
    ufunc,
)
from weft.frontend.numpy.ufunc_rules import full_like
from weft.frontend.problems import shape_error
from weft.frontend.table import implements
from weft.frontend.tracer import Tracer

__all__ = ["accumulator", "divide_by_count", "fold", "keep_axes", "mean", "moments", "std", "var"]

_MISSING: Any = np._NoValue
_I64, _U64 = DTYPES["i64"], DTYPES["u64"]


def accumulator(dtype: DType) -> DType:
    """The type sums and products accumulate in: small integers in 64 bits."""
    if dtype.kind == "uint":
        return _U64
    return _I64 if dtype.kind in ("int", "bool") else dtype


def keep_axes(node: Node, shape: Shape, axes: tuple[int, ...]) -> Node:
    """A reduced node with its axes back as size 1."""
    return build().reshape(node, tuple(1 if a in axes else d for a, d in enumerate(shape)))


def _identity(op: str, dtype: DType) -> Any:
    if op in ("reduce_sum", "reduce_or"):
        return 0
    if op in ("reduce_prod", "reduce_and"):
        return 1
    least = op == "reduce_max"
    if dtype.kind == "bool":
        return not least
    if dtype.is_integer:
        info = np.iinfo(dtype.numpy)
        return info.min if least else info.max
    return -math.inf if least else math.inf


_NEEDS_INITIAL = {"reduce_max": "maximum", "reduce_min": "minimum"}
_COMBINE = {"reduce_sum": "add", "reduce_prod": "mul", "reduce_max": "maximum",
            "reduce_min": "minimum", "reduce_and": "and", "reduce_or": "or"}


def fold(op: str, x: Node, axis: Any, keepdims: Any = False, initial: Any = _MISSING,
         where: Any = True, out: Any = None) -> Tracer:
    """Reduce `x` by the primitive `op` over `axis`."""
    b, shape = build(), x.shape
    axes = axes_of(axis, len(shape))
    given = initial is not _MISSING and initial is not None
    if op in _NEEDS_INITIAL and not given:
        _check_nonempty(op, shape, axes, where)
    if where is not True and where is not _MISSING:
        mask, full = _mask(where, x)
        x = b.select(mask, full, b.scalar(_identity(op, x.dtype), x.dtype))
        shape = x.shape
    if op in _NEEDS_INITIAL and any(shape[a] == 0 for a in axes):
        rest = tuple(d for a, d in enumerate(shape) if a not in axes)
        node = b.broadcast(b.convert(lift(initial).node, x.dtype), rest)
    else:
        node = b.add(op, x, axes=tuple(sorted(axes))) if axes else x
        if given:
            node = b.add(_COMBINE[op], node, _initial(initial, node))
    if keepdims and keepdims is not _MISSING:
        node = keep_axes(node, shape, axes)
    return into(out, result(node))  # type: ignore[no-any-return]


def _initial(initial: Any, node: Node) -> Node:
    b = build()
    return b.broadcast(b.convert(lift(initial).node, node.dtype), node.shape)


def _mask(where: Any, x: Node) -> tuple[Node, Node]:
    b = build()
    mask = lift(where).node
    return b.broadcast(b.convert(mask, "bool"), x.shape), x


def _check_nonempty(op: str, shape: Shape, axes: tuple[int, ...], where: Any) -> None:
    name = _NEEDS_INITIAL[op]
    if any(shape[a] == 0 for a in axes):
        raise shape_error(f"zero-size array to reduction operation {name} which has no identity",
                          "at least one element along the axes", "give initial=")
    if where is not True and where is not _MISSING:
        raise shape_error(f"reduction operation '{name}' does not have an identity, so to use a "
                          "where mask one has to specify 'initial'", None, "give initial=")


def _accumulated(a: Array, dtype: Any, out: Any) -> Node:
    x = lift(a).node
    if dtype is None and out is not None:
        dtype = out.dtype
    return build().convert(x, dtype_of(dtype) if dtype is not None else accumulator(x.dtype))


# ---- the functions

@implements(np.sum, methods=("sum",))
def _sum(a: Array, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: Any = False,
         initial: Any = _MISSING, where: Any = True) -> Tracer:
    x = _accumulated(a, dtype, out)
    if x.dtype.kind == "bool":                     # dtype=bool was asked for: or
        return fold("reduce_or", x, axis, keepdims, initial, where, out)
    return fold("reduce_sum", x, axis, keepdims, initial, where, out)


@implements(np.prod, methods=("prod",))
def _prod(a: Array, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: Any = False,
          initial: Any = _MISSING, where: Any = True) -> Tracer:
    x = _accumulated(a, dtype, out)
    op = "reduce_and" if x.dtype.kind == "bool" else "reduce_prod"
    return fold(op, x, axis, keepdims, initial, where, out)


@implements(np.max, np.amax, methods=("max",))
def _max(a: Array, axis: Any = None, out: Any = None, keepdims: Any = False,
         initial: Any = _MISSING, where: Any = True) -> Tracer:
    return fold("reduce_max", lift(a).node, axis, keepdims, initial, where, out)


@implements(np.min, np.amin, methods=("min",))
def _min(a: Array, axis: Any = None, out: Any = None, keepdims: Any = False,
         initial: Any = _MISSING, where: Any = True) -> Tracer:
    return fold("reduce_min", lift(a).node, axis, keepdims, initial, where, out)


@implements(np.all, methods=("all",))
def _all(a: Array, axis: Any = None, out: Any = None, keepdims: Any = False, *,
         where: Any = True) -> Tracer:
    x = build().convert(lift(a).node, "bool")
    return fold("reduce_and", x, axis, keepdims, _MISSING, where, out)


@implements(np.any, methods=("any",))
def _any(a: Array, axis: Any = None, out: Any = None, keepdims: Any = False, *,
         where: Any = True) -> Tracer:
    x = build().convert(lift(a).node, "bool")
    return fold("reduce_or", x, axis, keepdims, _MISSING, where, out)


@implements(np.count_nonzero)
def _count_nonzero(a: Array, axis: Any = None, *, keepdims: Any = False) -> Tracer:
    b = build()
    x = b.convert(b.convert(lift(a).node, "bool"), "i64")
    return fold("reduce_sum", x, axis, keepdims)


@implements(np.ptp)
def _ptp(a: Array, axis: Any = None, out: Any = None, keepdims: Any = False) -> Any:
    x = lift(a).node
    high, low = (fold(op, x, axis, keepdims) for op in ("reduce_max", "reduce_min"))
    return into(out, ufunc("subtract", high, low))


def _arg(op: str) -> Callable[..., Tracer]:
    def arg(a: Array, axis: Any = None, out: Any = None, *, keepdims: Any = False) -> Tracer:
        b = build()
        x, shape = lift(a).node, lift(a).node.shape
        axes = axes_of(axis if axis is None else operator.index(axis), max(len(shape), 1))
        if axis is None or not shape:
            axes = tuple(range(len(shape)))
            x = b.reshape(x, (count_of(x, axes),))
        node = b.add(op, x, axis=0 if axis is None or not shape else axes[0])
        if keepdims and keepdims is not _MISSING:
            node = keep_axes(node, shape, axes)
        return into(out, result(node))  # type: ignore[no-any-return]
    return arg


argmax = implements(np.argmax, methods=("argmax",))(_arg("argmax"))
argmin = implements(np.argmin, methods=("argmin",))(_arg("argmin"))


# ---- means

def count_node(count: Dim, dtype: DType) -> Node:
    """A number of elements, which may be symbolic, as a 0-d value."""
    b = build()
    if isinstance(count, int):
        return b.scalar(count, dtype)
    return b.convert(the_trace().size(count).node, dtype)


def divide_by_count(total: Node, count: Dim | Node) -> Node:
    """`total / count` in the element type of `total`."""
    b = build()
    n = b.convert(count, total.dtype) if isinstance(count, Node) else count_node(count, total.dtype)
    if n.shape not in ((), total.shape):
        n = b.broadcast(n, total.shape)
    return b.div(total, n)


def _count(x: Node, axes: tuple[int, ...], where: Any, keepdims: bool) -> Dim | Node:
    if where is True or where is _MISSING:
        return count_of(x, axes)
    b = build()
    mask = b.convert(b.broadcast(b.convert(lift(where).node, "bool"), x.shape), "i64")
    return fold("reduce_sum", mask, axes, keepdims).node


def _working(x: Node, dtype: Any) -> DType:
    if dtype is not None:
        return dtype_of(dtype)
    return x.dtype if x.dtype.is_inexact else DTYPES["f64"]


@implements(np.mean, methods=("mean",))
def mean(a: Array, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: Any = False, *,
         where: Any = True) -> Tracer:
    """`np.mean`: integers in float64, float16 summed in float32."""
    b, x = build(), lift(a).node
    axes = axes_of(axis, len(x.shape))
    work = _working(x, dtype)
    wide = DTYPES["f32"] if work is DTYPES["f16"] and dtype is None else work
    keep = bool(keepdims) and keepdims is not _MISSING
    total = fold("reduce_sum", b.convert(x, wide), axes, keep, where=where).node
    if total.dtype.is_integer:                     # dtype=int was asked for
        ratio = divide_by_count(b.convert(total, "f64"), _count(x, axes, where, keep))
    else:
        ratio = divide_by_count(total, _count(x, axes, where, keep))
    return into(out, result(b.convert(ratio, work)))  # type: ignore[no-any-return]


def moments(a: Array, axis: Any, dtype: Any, ddof: Any, keepdims: Any, where: Any,
            mean: Any = None) -> Node:
    """The variance, computed from the deviations from the mean."""
    b, x = build(), lift(a).node
    axes = axes_of(axis, len(x.shape))
    work = _working(x, dtype)
    keep = bool(keepdims) and keepdims is not _MISSING
    if mean is not None and mean is not _MISSING:
        centre = lift(mean).node
    else:
        total = fold("reduce_sum", b.convert(x, work), axes, True, where=where).node
        centre = divide_by_count(total, _count(x, axes, where, True))
    from_mean = ufunc("subtract", Tracer(the_trace(), x), Tracer(the_trace(), centre)).node
    square = _squared(from_mean)
    if dtype is not None:
        square = b.convert(square, work.real)
    total = fold("reduce_sum", square, axes, keep, where=where).node
    return divide_by_count(total, _freedom(_count(x, axes, where, keep), ddof, total.dtype))


def _squared(x: Node) -> Node:
    b = build()
    if not x.dtype.is_complex:
        return b.mul(x, x)
    re, im = b.real(x), b.imag(x)
    return b.add("add", b.mul(re, re), b.mul(im, im))


def _freedom(count: Dim | Node, ddof: Any, dtype: DType) -> Node:
    """max(count - ddof, 0)."""
    b = build()
    if isinstance(count, int) and isinstance(ddof, (int, float)):
        return b.scalar(max(count - ddof, 0), dtype)
    node = count if isinstance(count, Node) else count_node(count, _I64)
    left = ufunc("subtract", Tracer(the_trace(), node), ddof).node
    return b.convert(b.maximum(left, full_like(b, left, 0)), dtype)


@implements(np.var, methods=("var",))
def var(a: Array, axis: Any = None, dtype: Any = None, out: Any = None, ddof: Any = 0,
        keepdims: Any = False, *, where: Any = True, mean: Any = _MISSING,
        correction: Any = _MISSING) -> Tracer:
    """`np.var`: the mean squared distance from the mean."""
    node = moments(a, axis, dtype, _ddof(ddof, correction), keepdims, where, mean)
    return into(out, result(node))  # type: ignore[no-any-return]


@implements(np.std, methods=("std",))
def std(a: Array, axis: Any = None, dtype: Any = None, out: Any = None, ddof: Any = 0,
        keepdims: Any = False, *, where: Any = True, mean: Any = _MISSING,
        correction: Any = _MISSING) -> Tracer:
    """`np.std`: the square root of the variance."""
    node = moments(a, axis, dtype, _ddof(ddof, correction), keepdims, where, mean)
    return into(out, result(root(node)))  # type: ignore[no-any-return]


def _ddof(ddof: Any, correction: Any) -> Any:
    if correction is _MISSING:
        return ddof
    if ddof != 0:
        raise ValueError("ddof and correction can't be provided simultaneously.")
    return correction


@implements(np.average)
def _average(a: Array, axis: Any = None, weights: Any = None, returned: bool = False, *,
             keepdims: Any = False) -> Any:
    x = lift(a)
    if weights is None:
        out = mean(x, axis, keepdims=keepdims)
        count = count_of(x.node, axes_of(axis, len(x.node.shape)))
        scale: Any = as_array(full_like(build(), out.node, 1))
        total = Tracer(the_trace(), divide_by_count(scale.node, 1), out.kind)
        total.node = build().broadcast(count_node(count, out.node.dtype), out.node.shape)
        return (out, total) if returned else out
    w, axes = _weights(x, lift(weights), axis)
    dtype = np.result_type(x.dtype, w.dtype, *(["f8"] if not x.element.is_inexact else []))
    total = _sum(w, axes, dtype, keepdims=keepdims)
    weighted = ufunc("multiply", x, Tracer(w.tape, build().convert(w.node, dtype_of(dtype))))
    out = ufunc("divide", _sum(weighted, axes, dtype, keepdims=keepdims), total)
    if not returned:
        return out
    total.node = build().broadcast(total.node, out.node.shape)
    return out, total


def _weights(x: Tracer, w: Tracer, axis: Any) -> tuple[Tracer, tuple[int, ...]]:
    shape = x.node.shape
    axes = axes_of(axis, len(shape))
    if w.node.shape == shape:
        return w, axes
    if axis is None:
        raise TypeError("Axis must be specified when shapes of a and weights differ.")
    if w.node.shape != tuple(shape[a] for a in axes):
        raise shape_error("Shape of weights must be consistent with shape of a along specified "
                          "axis.")
    b = build()
    order = sorted(range(len(axes)), key=lambda i: axes[i])
    node = b.transpose(w.node, perm=tuple(order)) if order != list(range(len(axes))) else w.node
    return as_array(b.broadcast(node, shape, sorted(axes))), axes
