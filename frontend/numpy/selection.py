"""Choosing between values: where, select, clip, choose, piecewise."""

from __future__ import annotations

from typing import Any

import numpy as np

from weft.compiler.errors import DataDependentError
from weft.compiler.ir import Node, is_scalar_constant
from weft.compiler.types import DTYPES
from weft.frontend.numpy.common import (
    Array,
    as_array,
    broadcast,
    build,
    common_dtype,
    into,
    key_of,
    lift,
    result,
    same_dtype,
    ufunc,
)
from weft.frontend.numpy.promote import check_range, find_loop
from weft.frontend.numpy.ufuncs import broadcast_shape
from weft.frontend.problems import problem, shape_error
from weft.frontend.table import implements, method
from weft.frontend.tracer import Tracer

__all__ = ["clip", "where"]

_MISSING: Any = np._NoValue
# Until 2.4, NumPy's `where` let Python integers wrap that its result cannot hold.
NO_WRAPPING = np.lib.NumpyVersion(np.__version__) >= "2.5.0.dev0"


@implements(np.where)
def where(condition: Array, x: Array = _MISSING, y: Array = _MISSING, /) -> Tracer:
    """`np.where` with two values."""
    if x is _MISSING or y is _MISSING:
        if x is not _MISSING or y is not _MISSING:
            raise ValueError("either both or neither of x and y should be given")
        raise problem(DataDependentError, "np.where(mask) finds as many indices as the mask has "
                      "True ones, which is not known while tracing",
                      repair="use np.where(mask, x, y)")
    b = build()
    xs = [lift(x), lift(y)]
    dtype = common_dtype(xs)
    if NO_WRAPPING:
        for v in xs:
            if v.kind == "int" and type(v.value) is int:
                check_range(v.value, dtype)
    mask = b.convert(lift(condition).node, "bool")
    nodes = [mask, *same_dtype(xs, dtype)]
    shape = broadcast_shape([n.shape for n in nodes])
    nodes = [n if n.shape == () else b.broadcast(n, shape) for n in nodes]
    return as_array(b.select(*nodes))


@implements(np.clip, methods=("clip",))
def clip(a: Array, a_min: Any = _MISSING, a_max: Any = _MISSING, out: Any = None, *,
         min: Any = _MISSING, max: Any = _MISSING, **options: Any) -> Any:
    """`np.clip`: the nearest value between two bounds."""
    low = min if a_min is _MISSING else a_min
    high = max if a_max is _MISSING else a_max
    low, high = (None if v is _MISSING else v for v in (low, high))
    x = lift(a)
    if low is None and high is None:
        value: Any = ufunc("positive", x) if x.element.kind != "bool" else result(x.node)
    elif high is None:
        value = ufunc("maximum", x, low)
    elif low is None:
        value = ufunc("minimum", x, high)
    else:
        value = _clipped(x, low, high)
    return into(out, value)


def _clipped(x: Tracer, low: Any, high: Any) -> Tracer:
    b = build()
    xs = [x, lift(low), lift(high)]
    ins, _ = find_loop(np._core.umath.clip, tuple(map(key_of, xs)))  # type: ignore[attr-defined]
    for v in xs[1:]:
        if v.kind == "int" and type(v.value) is int:
            check_range(v.value, ins[0])
    nodes = [b.convert(v.node, ins[0]) for v in xs]
    shape = broadcast_shape([n.shape for n in nodes])
    p, q, r = (n if n.shape == () else b.broadcast(n, shape) for n in nodes)
    if q.shape == r.shape == () and p.dtype.is_float:
        return result(_held(_held(p, q, "lt"), r, "gt"))
    return result(_bounded(_bounded(p, q, "gt"), r, "lt"))


def _held(x: Node, bound: Node, beyond: str) -> Node:
    """`bound` where `x` lies beyond it; of equal ones, such as 0.0 and -0.0, `x` stays."""
    b = build()
    out = b.add(beyond, x, bound)
    if not is_scalar_constant(bound) or np.isnan(bound.attrs["value"]):
        out = b.or_(out, b.is_nan(bound))
    return b.select(out, bound, x)


def _bounded(x: Node, bound: Node, keep: str) -> Node:
    """The larger (keep gt) or smaller of two; of equal ones, such as 0.0 and -0.0, the bound."""
    b = build()
    if not x.dtype.is_float:
        return b.add("maximum" if keep == "gt" else "minimum", x, bound)
    return b.select(b.or_(b.add(keep, x, bound), b.is_nan(x)), x, bound)


@implements(np.select)
def _select(condlist: Any, choicelist: Any, default: Any = 0) -> Any:
    if len(condlist) != len(choicelist):
        raise shape_error("list of cases must be same length as list of conditions")
    if not condlist:
        raise shape_error("select with an empty condition list is not possible")
    b = build()
    conds = [lift(c) for c in condlist]
    for k, c in enumerate(conds):
        if c.element.kind != "bool":
            raise TypeError(f"invalid entry {k} in condlist: should be boolean ndarray")
    choices = same_dtype([*map(lift, choicelist), lift(default)])
    nodes = broadcast([*(c.node for c in conds), *choices])
    n = len(conds)
    out = nodes[-1]
    for mask, choice in zip(reversed(nodes[:n]), reversed(nodes[n:-1])):
        out = b.select(mask, choice, out)
    return as_array(out)


@implements(np.choose)
def _choose(a: Array, choices: Any, out: Any = None, mode: str = "raise") -> Any:
    b = build()
    options = list(choices) if isinstance(choices, (list, tuple)) else list(lift(choices))
    nodes = broadcast([b.convert(lift(a).node, "i64"), *same_dtype([lift(c) for c in options])])
    index, values = nodes[0], nodes[1:]
    shape = index.shape
    table = b.concatenate(*(b.reshape(v, (1, *v.shape)) for v in values), axis=0)
    grids = [b.iota(shape=shape, axis=i, dtype=DTYPES["i64"]) for i in range(len(shape))]
    node = b.gather(table, _first_mode(index, len(values), mode), *grids,
                    axes=tuple(range(len(shape) + 1)), position=0,
                    mode="raise" if mode == "raise" else "clip")
    return into(out, result(node))


def _first_mode(index: Any, n: int, mode: str) -> Any:
    """Indices brought into range as the mode says; `raise` leaves that to the gather."""
    b = build()
    if mode == "clip":
        return b.minimum(b.maximum(index, b.scalar(0, "i64")), b.scalar(n - 1, "i64"))
    if mode == "wrap":
        return b.remainder(index, b.scalar(n, "i64"))
    negative = b.lt(index, b.scalar(0, "i64"))     # np.choose takes no negative ones
    return b.select(negative, b.scalar(n, "i64"), index)


@method("choose")
def _choose_method(x: Tracer, choices: Any, out: Any = None, mode: str = "raise") -> Any:
    return _choose(x, choices, out, mode)


@implements(np.piecewise)
def _piecewise(x: Array, condlist: Any, funclist: Any, *args: Any, **kw: Any) -> Any:
    t, b = lift(x), build()
    conds = condlist if isinstance(condlist, (list, tuple)) else [condlist]
    if len(conds) and not isinstance(conds[0], (list, tuple)) and type(conds[0]) in (bool, int):
        conds = [list(conds)]
    masks = [b.broadcast(b.convert(lift(c).node, "bool"), t.node.shape) for c in conds]
    functions = list(funclist)
    out = b.broadcast(b.scalar(0, t.element), t.node.shape)
    if len(functions) == len(masks) + 1:
        out = _piece(functions.pop(), t, args, kw)
    elif len(functions) != len(masks):
        raise shape_error(f"with {len(masks)} condition(s), either {len(masks)} or "
                          f"{len(masks) + 1} functions are expected")
    for mask, function in zip(masks, functions):
        out = b.select(mask, _piece(function, t, args, kw), out)
    return as_array(out)


def _piece(function: Any, x: Tracer, args: Any, kw: Any) -> Any:
    value = lift(function(x, *args, **kw) if callable(function) else function)
    b = build()
    return b.broadcast(b.convert(value.node, x.element), x.node.shape)
