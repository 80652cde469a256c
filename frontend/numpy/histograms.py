"""Histograms and counts: every element's bin is found, and counted there."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from weft.compiler.errors import DataDependentError, UnsupportedError
from weft.compiler.ir import Node
from weft.compiler.types import DTYPES, Dim, numel
from weft.frontend.numpy.common import Array, as_array, as_list, build, lift, ufunc
from weft.frontend.numpy.creation import linspace
from weft.frontend.numpy.reductions import fold
from weft.frontend.numpy.shapes import ravel
from weft.frontend.numpy.sorting import searchsorted
from weft.frontend.problems import problem, shape_error
from weft.frontend.table import implements
from weft.frontend.tracer import Tracer

__all__: list[str] = []

_I64, _F64 = DTYPES["i64"], DTYPES["f64"]


@implements(np.bincount)
def _bincount(x: Array, /, weights: Array = None, minlength: Any = 0) -> Any:
    """NumPy's result is longer where an element is; here that is an error of the call."""
    b, t, n = build(), lift(x), operator.index(minlength)
    if len(t.node.shape) != 1:
        raise shape_error("object too deep for desired array" if t.node.shape else
                          "object of too small depth for desired array")
    if not (t.element.is_integer or t.element.kind == "bool"):
        raise TypeError(f"Cannot cast array data from {t.dtype!r} to dtype('int64') according to "
                        "the rule 'safe'")
    if n <= 0:
        raise problem(
            DataDependentError, "the length of np.bincount(x) is the largest element of x and one, "
            "which is not known while tracing", expected="minlength=, and no element beyond it",
            repair="give minlength= the number of bins")
    at = b.convert(t.node, _I64)
    # negative elements are no places from the end; far below, they are out of bounds
    at = b.select(b.lt(at, b.scalar(0, _I64)), b.sub(at, b.scalar(n, _I64)), at)
    return as_array(_counted(at, (n,), weights, "raise"))


def _counted(at: Node, shape: tuple[Dim, ...], weights: Array, mode: str) -> Node:
    """How often each place of a flat array is met, or what the elements there weigh together."""
    b = build()
    if weights is None:
        ones = b.broadcast(b.scalar(1, _I64), at.shape, ())
        dtype, values = _I64, ones
    else:
        w = lift(weights)
        if w.node.shape != at.shape:
            raise shape_error("The weights and list don't have the same length.")
        dtype = DTYPES["c128"] if w.element.is_complex else _F64
        values = b.convert(w.node, dtype)
    zeros = b.broadcast(b.scalar(0, dtype), (numel(shape),), ())
    counts = b.scatter(zeros, at, values, axes=(0,), position=0, mode=mode, combine="add")
    return b.reshape(counts, shape)


# ---- histograms

@implements(np.histogram_bin_edges)
def _bin_edges(a: Array, bins: Any = 10, range: Any = None, weights: Any = None) -> Any:
    if isinstance(bins, str):
        raise problem(UnsupportedError, f"bins={bins!r} makes the number of bins depend on values",
                      repair="give the number of bins, or the edges")
    if (type(bins) is Tracer and bins.node.shape) or isinstance(bins, (list, tuple, np.ndarray)):
        return lift(bins)
    x = ravel(a)
    if range is not None:
        low, high = range
    else:
        low, high = fold("reduce_min", x.node, 0), fold("reduce_max", x.node, 0)
    low, high = (as_array(build().convert(lift(v).node, "f64")) for v in (low, high))
    flat = ufunc("equal", low, high)
    b = build()
    half = b.scalar(0.5, "f64")
    ends = [as_array(b.select(flat.node, f(v.node, half), v.node))
            for f, v in ((b.sub, low), (b.add_, high))]
    edges = linspace(ends[0], ends[1], int(bins) + 1)
    return as_array(b.convert(edges.node, x.element if x.element.is_float else "f64"))


def _bin_of(x: Node, edges: Node) -> tuple[Node, Dim]:
    """The bin of each element, and how many there are; outside of all, that number."""
    b = build()
    n: Any = edges.shape[0]
    count = b.scalar(n - 1, _I64) if isinstance(n, int) else b.size(size=n - 1)
    first, last = (_element(edges, i) for i in (0, n - 1))
    at = searchsorted(as_array(edges), as_array(x), "right").node
    at = b.sub(at, b.scalar(1, _I64))
    xs, ends = _alike(x, last)
    at = b.select(b.eq(xs, ends), b.sub(count, b.scalar(1, _I64)), at)
    xs, begins = _alike(x, first)
    return b.select(b.lt(xs, begins), count, at), n - 1


def _element(x: Node, i: Dim) -> Node:
    part = build().slice(x, start=(i,), limit=(i + 1,), stride=(1,))
    return build().reshape(part, ())


def _alike(x: Node, value: Node) -> tuple[Node, Node]:
    """Both in the element type in which NumPy compares them."""
    b = build()
    wide = x.dtype if x.dtype is value.dtype else _F64
    return b.convert(x, wide), b.convert(value, wide)


def _density(counts: Tracer, edges: Sequence[Tracer]) -> Any:
    """Counts by the volume of their bins and by all of them together."""
    out: Any = counts
    for axis, e in enumerate(edges):
        width = e[1:] - e[:-1]
        shape = [1] * len(edges)
        shape[axis] = -1
        out = out / width.reshape(shape)
    return out / fold("reduce_sum", counts.node, None)


@implements(np.histogram)
def _histogram(a: Array, bins: Any = 10, range: Any = None, density: Any = None,
               weights: Any = None) -> Any:
    x = ravel(a)
    edges = _bin_edges(a, bins, range)
    at, n = _bin_of(x.node, edges.node)
    w = None if weights is None else ravel(weights)
    node = _counted(at, (n,), w, "drop")
    if w is not None and w.element is not _F64 and not w.element.is_complex:
        node = build().convert(node, w.element)
    counts = as_array(node)
    return (_density(counts, [edges]) if density else counts), edges


@implements(np.histogramdd)
def _histogramdd(sample: Any, bins: Any = 10, range: Any = None, density: Any = None,
                 weights: Any = None) -> Any:
    b = build()
    columns = _columns(sample)
    d = len(columns)
    every = as_list(bins) if isinstance(bins, (list, tuple)) else [bins] * d
    if len(every) != d:
        raise shape_error("The dimension of bins must be equal to the dimension of the sample x.")
    ranges = [None] * d if range is None else list(range)
    edges = [_bin_edges(x, n, r) for x, n, r in zip(columns, every, ranges)]
    total: Node | None = None
    outside: Node | None = None
    shape: list[Dim] = []
    for x, e in zip(columns, edges):
        at, n = _bin_of(x.node, e.node)
        size = b.scalar(n, _I64) if isinstance(n, int) else b.size(size=n)
        beyond = b.ge(at, size)
        outside = beyond if outside is None else b.or_(outside, beyond)
        total = at if total is None else b.add("add", b.mul(total, size), at)
        shape.append(n)
    assert total is not None and outside is not None
    whole: Any = numel(shape)
    out = b.scalar(whole, _I64) if isinstance(whole, int) else b.size(size=whole)
    w = None if weights is None else ravel(weights)
    counts = as_array(b.convert(_counted(b.select(outside, out, total), tuple(shape), w, "drop"),
                                _F64))
    return (_density(counts, edges) if density else counts), edges


def _columns(sample: Any) -> list[Tracer]:
    """The coordinates of points: the columns of an array, or a sequence of arrays."""
    if isinstance(sample, (list, tuple)):
        return [ravel(x) for x in sample]
    x = lift(sample)
    if len(x.node.shape) == 1:
        return [x]
    count = x.node.shape[1]
    if not isinstance(count, int):
        raise problem(UnsupportedError, "np.histogramdd of points with a symbolic number of "
                      "coordinates")
    return [x[:, k] for k in np.arange(count).tolist()]


@implements(np.histogram2d)
def _histogram2d(x: Array, y: Array, bins: Any = 10, range: Any = None, density: Any = None,
                 weights: Any = None) -> Any:
    several = isinstance(bins, (list, tuple, np.ndarray, Tracer))
    one_for_each = several and len(bins) in (1, 2)
    counts, edges = _histogramdd([x, y], list(bins) if one_for_each else [bins, bins], range,
                                 density, weights)
    return counts, edges[0], edges[1]
