"""Arrays from shapes and numbers: zeros, arange, linspace, eye, tri, meshgrid, …"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from weft.compiler.errors import DataDependentError, UnsupportedError
from weft.compiler.ir import Node
from weft.compiler.types import DTYPES, Dim, Shape, Size, dtype_of
from weft.frontend.numpy.common import (
    Array,
    as_array,
    as_dim,
    as_shape,
    broadcast,
    build,
    element,
    lift,
    the_trace,
    ufunc,
)
from weft.frontend.numpy.promote import check_range
from weft.frontend.numpy.shapes import moveaxis
from weft.frontend.numpy.ufuncs import shape_str
from weft.frontend.problems import problem, shape_error
from weft.frontend.table import HOOKS, implements
from weft.frontend.tracer import Tracer

__all__ = ["array", "asarray", "filled", "iota"]

_F64 = DTYPES["f64"]


def filled(shape: Shape, value: Any, dtype: Any) -> Node:
    """An array of one value."""
    b = build()
    return b.broadcast(b.scalar(value, dtype), shape)


def iota(n: Dim, dtype: Any = "i64") -> Node:
    """0, 1, …, n - 1."""
    return build().iota(shape=(n,), axis=0, dtype=dtype_of(dtype))


# ---- of one value

def _full_function(value: int) -> Callable[..., Tracer]:
    def make(shape: Any, dtype: Any = None, order: Any = "C", *, device: Any = None,
             like: Any = None) -> Tracer:
        return as_array(filled(as_shape(shape), value, element(dtype or float)))
    return make


zeros = implements(np.zeros)(_full_function(0))
ones = implements(np.ones)(_full_function(1))
implements(np.empty)(_full_function(0))


@implements(np.full)
def full(shape: Any, fill_value: Any, dtype: Any = None, order: Any = "C", *, device: Any = None,
         like: Any = None) -> Tracer:
    """`np.full`."""
    b, value = build(), lift(fill_value).node
    wanted = element(dtype) if dtype is not None else value.dtype
    return as_array(b.broadcast(b.convert(value, wanted), as_shape(shape)))


def _like_function(value: int) -> Callable[..., Tracer]:
    def make(a: Array, dtype: Any = None, order: Any = "K", subok: bool = True,
             shape: Any = None, *, device: Any = None) -> Tracer:
        x = lift(a)
        wanted = element(dtype) if dtype is not None else x.element
        return as_array(filled(x.node.shape if shape is None else as_shape(shape), value, wanted))
    return make


zeros_like = implements(np.zeros_like)(_like_function(0))
ones_like = implements(np.ones_like)(_like_function(1))
implements(np.empty_like)(_like_function(0))


@implements(np.full_like)
def full_like(a: Array, fill_value: Any, dtype: Any = None, order: Any = "K", subok: bool = True,
              shape: Any = None, *, device: Any = None) -> Tracer:
    """`np.full_like`."""
    x, value = lift(a), fill_value
    wanted = element(dtype) if dtype is not None else x.element
    if type(value) is int:
        check_range(value, wanted)
    size = x.node.shape if shape is None else as_shape(shape)
    return full(size, value, wanted)


# ---- conversion

@implements(np.asarray, np.asanyarray, np.ascontiguousarray, np.asfortranarray, np.require)
def asarray(a: Array, dtype: Any = None, *args: Any, like: Any = None, **kwargs: Any) -> Tracer:
    """`np.asarray`: the array itself where it has the element type."""
    x = lift(a)
    node = x.node if dtype is None else build().convert(x.node, element(dtype))
    if x.kind == "array" and node is x.node:
        return x
    return as_array(node)


@implements(np.array)
def array(object: Array, dtype: Any = None, *, copy: Any = True, order: Any = "K",
          subok: bool = False, ndmin: int = 0, ndmax: int = 0, like: Any = None) -> Tracer:
    """`np.array`: a new array of traced values."""
    x = asarray(object, dtype)
    node = x.node
    if ndmin > len(node.shape):
        node = build().reshape(node, (1,) * (ndmin - len(node.shape)) + node.shape)
    return as_array(node) if copy or node is not x.node else x


def _sequence(value: Any) -> Tracer:
    """A list that holds tracers, as an array: `np.array` of it."""
    xs = [lift(v) for v in value]
    dtype = dtype_of(np.result_type(*(x.element.numpy for x in xs)))
    shapes = {x.node.shape for x in xs}
    if len(shapes) > 1:
        raise shape_error("setting an array element with a sequence. The requested array has an "
                          "inhomogeneous shape after 1 dimensions.", "elements of one shape, got "
                          + " and ".join(sorted(map(shape_str, shapes))))
    b = build()
    parts = [b.reshape(b.convert(x.node, dtype), (1, *x.node.shape)) for x in xs]
    return as_array(b.concatenate(*parts, axis=0))


HOOKS.sequence = _sequence


# ---- ranges

@implements(np.arange)
def arange(*args: Any, dtype: Any = None, device: Any = None, like: Any = None,
           **named: Any) -> Tracer:
    """`np.arange`: bounds must be known while tracing, or symbolic sizes."""
    if len(args) == 4:
        *args, dtype = args  # type: ignore[assignment]
    bounds = [named.get("start", 0), named.get("stop"), named.get("step", 1)]
    if len(args) == 1 and "stop" not in named:
        bounds[1] = args[0]
    else:
        bounds[:len(args)] = args
    start, stop, step = bounds
    if stop is None:
        start, stop = 0, start
    sizes = [v for v in (start, stop, step) if type(v) is Tracer and isinstance(v.value, Size)]
    if sizes:
        return _symbolic_range(start, stop, step, dtype)
    values = [_range_bound(v) for v in (start, stop, step)]
    return as_array(_range_node(np.arange(*values, dtype=dtype)))


def _range_bound(value: Any) -> Any:
    if type(value) is not Tracer:
        return value
    if value.value is None:
        raise problem(DataDependentError, "the length of np.arange depends on values, which are "
                      "not known while tracing",
                      repair="pass the bounds as Python numbers, or use np.linspace with a fixed "
                      "number of points")
    return value.concrete("np.arange")


def _range_node(values: Any) -> Node:
    """An arithmetic sequence of integers as iota; the values themselves otherwise."""
    b, n = build(), len(values)
    if n < 2 or values.dtype.kind not in "iu":
        return b.constant(values)
    step, first = int(values[1]) - int(values[0]), int(values[0])
    node = iota(n, values.dtype)
    if step != 1:
        node = b.mul(node, b.scalar(step, values.dtype))
    return b.add_(node, b.scalar(first, values.dtype)) if first else node


def _symbolic_range(start: Any, stop: Any, step: Any, dtype: Any) -> Tracer:
    low, high, stride = as_dim(start), as_dim(stop), operator.index(step)
    if stride != 1:
        raise problem(UnsupportedError, "np.arange with a symbolic bound takes step 1 only",
                      repair="multiply np.arange(n) by the step")
    node = iota(high - low, dtype if dtype is not None else "i64")
    out = as_array(node)
    return out if low == 0 else ufunc("add", out, start)


@implements(np.linspace)
def linspace(start: Any, stop: Any, num: Any = 50, endpoint: bool = True, retstep: bool = False,
             dtype: Any = None, axis: Any = 0, *, device: Any = None) -> Any:
    """`np.linspace`, bounds traced or not."""
    count = operator.index(num)
    if count < 0:
        raise ValueError(f"Number of samples, {count}, must be non-negative.")
    b = build()
    lo, hi = lift(start), lift(stop)
    work = dtype_of(np.result_type(*(_weak_or_dtype(x) for x in (lo, hi)), float(count)))
    low, high = broadcast([b.convert(lo.node, work), b.convert(hi.node, work)])
    div = count - 1 if endpoint else count
    integral = dtype is not None and np.issubdtype(np.dtype(dtype), np.integer)
    node, step = _spaced(low, high, count, div, endpoint)
    if integral:
        node = b.floor(node)
    node = b.convert(node, work if dtype is None else element(dtype))
    out = as_array(node)
    if operator.index(axis) != 0:
        out = as_array(moveaxis(out, 0, axis).node)
    return (out, as_array(step) if step.shape else Tracer(the_trace(), step, "scalar")
            ) if retstep else out


def _weak_or_dtype(x: Tracer) -> Any:
    return {"int": 0, "float": 0.0, "complex": 0j}.get(x.kind, x.element.numpy)


def _spaced(low: Node, high: Node, count: int, div: int, endpoint: bool) -> tuple[Node, Node]:
    b, shape = build(), low.shape
    delta = b.sub(high, low)
    full_shape = (count, *shape)
    ramp = b.broadcast(b.iota(shape=(count,), axis=0, dtype=low.dtype), full_shape, (0,))
    wide = [b.broadcast(n, full_shape) for n in (delta, low, high)]
    if div <= 0:
        nan = b.broadcast(b.scalar(math.nan, low.dtype), shape)
        return b.add_(b.mul(ramp, wide[0]), wide[1]), nan
    step = b.div(delta, b.scalar(div, low.dtype))
    scaled = b.mul(ramp, b.broadcast(step, full_shape))
    flat = b.mul(b.div(ramp, b.scalar(div, low.dtype)), wide[0])
    zero = b.broadcast(b.eq(step, b.scalar(0, low.dtype)), full_shape)
    node = b.add_(b.select(zero, flat, scaled), wide[1])
    if endpoint and count > 1:
        place = b.broadcast(b.eq(iota(count), b.scalar(count - 1, "i64")), full_shape, (0,))
        node = b.select(place, wide[2], node)
    return node, step


@implements(np.logspace)
def _logspace(start: Any, stop: Any, num: Any = 50, endpoint: bool = True, base: Any = 10.0,
              dtype: Any = None, axis: Any = 0) -> Tracer:
    y = linspace(start, stop, num, endpoint, axis=axis)
    out = ufunc("power", base, y)
    return out if dtype is None else out.astype(dtype)  # type: ignore[no-any-return]


@implements(np.geomspace)
def _geomspace(start: Any, stop: Any, num: Any = 50, endpoint: bool = True, dtype: Any = None,
               axis: Any = 0) -> Tracer:
    b = build()
    lo, hi = lift(start), lift(stop)
    work = dtype_of(np.result_type(*(_weak_or_dtype(x) for x in (lo, hi)), float(num)))
    if work.is_complex:
        raise problem(UnsupportedError, "np.geomspace of complex numbers is not traced",
                      repair="use np.exp(np.linspace(np.log(a), np.log(b), n))")
    low, high = broadcast([b.convert(lo.node, work), b.convert(hi.node, work)])
    sign = b.sign(low)
    logs = [b.log10(b.mul(n, sign)) for n in (low, high)]
    count, last = operator.index(num), operator.index(num) - 1
    y = linspace(as_array(logs[0]), as_array(logs[1]), count, endpoint).node
    node = b.mul(b.pow(b.broadcast(b.scalar(10.0, work), y.shape), y), b.broadcast(sign, y.shape))
    ends = [(0, low)] + ([(last, high)] if endpoint and count > 1 else [])
    for at, value in ends if count else []:
        here = b.broadcast(b.eq(iota(count), b.scalar(at, "i64")), y.shape, (0,))
        node = b.select(here, b.broadcast(value, y.shape), node)
    node = b.convert(node, work if dtype is None else element(dtype))
    return as_array(node) if operator.index(axis) == 0 else moveaxis(as_array(node), 0, axis)


# ---- grids

@implements(np.meshgrid)
def _meshgrid(*xi: Array, copy: bool = True, sparse: bool = False,
              indexing: str = "xy") -> tuple[Tracer, ...]:
    if indexing not in ("xy", "ij"):
        raise ValueError("Valid values for `indexing` are 'xy' and 'ij'.")
    b, n = build(), len(xi)
    flat = [b.reshape(x.node, (x.node.tensor.size,)) for x in map(lift, xi)]
    place = list(range(n))
    if indexing == "xy" and n > 1:
        place[0], place[1] = 1, 0
    shape: list[Any] = [1] * n
    for node, axis in zip(flat, place):
        shape[axis] = node.shape[0]
    out = []
    for node, axis in zip(flat, place):
        line = tuple(node.shape[0] if a == axis else 1 for a in range(n))
        spread = b.reshape(node, line)
        out.append(as_array(spread if sparse else b.broadcast(spread, tuple(shape))))
    return tuple(out)


@implements(np.indices)
def _indices(dimensions: Any, dtype: Any = int, sparse: bool = False) -> Any:
    shape, b = as_shape(dimensions), build()
    grids = [b.iota(shape=shape, axis=a, dtype=element(dtype)) for a in range(len(shape))]
    if sparse:
        lines = [tuple(d if i == a else 1 for i, d in enumerate(shape)) for a in range(len(shape))]
        return tuple(as_array(b.reshape(iota(shape[a], element(dtype)), line))
                     for a, line in enumerate(lines))
    if not grids:
        return as_array(b.constant(np.indices((), dtype)))
    return as_array(b.concatenate(*(b.reshape(g, (1, *shape)) for g in grids), axis=0))


@implements(np.fromfunction)
def _fromfunction(function: Any, shape: Any, *, dtype: Any = float, like: Any = None,
                  **kwargs: Any) -> Any:
    sizes, b = as_shape(shape), build()
    grids = [as_array(b.iota(shape=sizes, axis=a, dtype=element(dtype)))
             for a in range(len(sizes))]
    return function(*grids, **kwargs)
