"""reduce, accumulate and outer of ufuncs on tracers."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from weft.compiler.errors import UnsupportedError
from weft.compiler.ir import Node
from weft.compiler.types import Size
from weft.frontend.numpy.common import as_array, axes_of, axis_of, build, into, lift, result
from weft.frontend.numpy.joins import part
from weft.frontend.numpy.reductions import keep_axes
from weft.frontend.numpy.scans import scan
from weft.frontend.numpy.ufunc_rules import RULES
from weft.frontend.numpy.ufuncs import METHODS, apply
from weft.frontend.problems import problem, shape_error
from weft.frontend.recording import Trace
from weft.frontend.table import FUNCTIONS
from weft.frontend.tracer import Tracer

__all__: list[str] = []

_FUNCTIONS = {"add": np.sum, "multiply": np.prod, "maximum": np.max, "minimum": np.min,
              "logical_and": np.all, "logical_or": np.any}
_TYPED = ("add", "multiply")
_SCANS = {"add": "cumsum", "multiply": "cumprod", "maximum": "cummax", "minimum": "cummin"}
# regrouping changes nothing but, for the floating-point ones, the rounding
_ASSOCIATIVE = frozenset(("bitwise_and", "bitwise_or", "bitwise_xor", "logical_xor", "gcd", "lcm",
                          "fmax", "fmin", "hypot", "logaddexp", "logaddexp2"))
_LONGEST = 64     # elements a reduction that must go one by one is unrolled to
_MISSING: Any = np._NoValue


def _out(out: Any) -> Any:
    return out[0] if isinstance(out, tuple) else out


def _reduce(trace: Trace, ufunc: Any, array: Any, axis: Any = 0, dtype: Any = None,
            out: Any = None, keepdims: Any = False, initial: Any = _MISSING,
            where: Any = True) -> Any:
    function = _FUNCTIONS.get(ufunc.__name__)
    if function is None:
        return into(_out(out), _general(trace, ufunc, lift(array), axis, dtype, keepdims, initial))
    options: dict[str, Any] = {"axis": axis, "out": _out(out), "keepdims": keepdims}
    if where is not True:
        options["where"] = where
    if ufunc.__name__ not in ("logical_and", "logical_or"):
        options["initial"] = initial
    if ufunc.__name__ in _TYPED:
        options["dtype"] = dtype
    return FUNCTIONS[function](array, **options)


def _general(trace: Trace, ufunc: Any, x: Tracer, axis: Any, dtype: Any, keepdims: Any,
             initial: Any) -> Tracer:
    if ufunc.__name__ not in RULES or ufunc.nin != 2:
        raise ValueError("reduce only supported for binary functions")
    axes = axes_of(axis, len(x.node.shape))
    node, shape = x.node, x.node.shape
    if dtype is not None:
        node = build().convert(node, dtype)
    if len(axes) > 1 and ufunc.__name__ not in _ASSOCIATIVE:
        raise ValueError(f"reduction operation {ufunc.__name__!r} is not reorderable, so at most "
                         "one axis may be specified")
    for a in sorted(axes, reverse=True):
        node = _fold_axis(trace, ufunc, node, a, initial)
    if keepdims and keepdims is not _MISSING:
        node = keep_axes(node, shape, axes)
    return result(node)


def _fold_axis(trace: Trace, ufunc: Any, node: Node, axis: int, initial: Any) -> Node:
    size = node.shape[axis]
    if isinstance(size, Size) or (size > _LONGEST and ufunc.__name__ not in _ASSOCIATIVE):
        raise problem(UnsupportedError, f"np.{ufunc.__name__}.reduce over an axis of size {size} "
                      "is not traced", repair="use np.add.reduce and its like, or np.where")

    def call(p: Node, q: Node) -> Node:
        return apply(trace, ufunc, (as_array(p), as_array(q))).node  # type: ignore[no-any-return]
    rest = (*node.shape[:axis], *node.shape[axis + 1:])
    if size == 0:
        if ufunc.identity is None:
            raise shape_error(f"zero-size array to reduction operation {ufunc.__name__} which has "
                              "no identity")
        return build().broadcast(build().scalar(ufunc.identity, node.dtype), rest)
    whole = _halved if ufunc.__name__ in _ASSOCIATIVE else _in_order
    out = build().reshape(whole(node, axis, call), rest)
    if initial is not _MISSING and initial is not None:
        out = call(build().broadcast(build().convert(lift(initial).node, out.dtype), rest), out)
    return out


def _halved(node: Node, axis: int, call: Callable[[Node, Node], Node]) -> Node:
    while (size := operator.index(node.shape[axis])) > 1:  # type: ignore[arg-type]
        half = size // 2
        pairs = call(part(node, axis, 0, half), part(node, axis, half, 2 * half))
        if size % 2:
            last = build().convert(part(node, axis, size - 1, size), pairs.dtype)
            pairs = build().concatenate(pairs, last, axis=axis)
        node = pairs
    return node


def _in_order(node: Node, axis: int, call: Callable[[Node, Node], Node]) -> Node:
    total = part(node, axis, 0, 1)
    for i in range(1, operator.index(node.shape[axis])):  # type: ignore[arg-type]
        total = call(total, part(node, axis, i, i + 1))
    return total


def _accumulate(trace: Trace, ufunc: Any, array: Any, axis: Any = 0, dtype: Any = None,
                out: Any = None) -> Any:
    op = _SCANS.get(ufunc.__name__)
    x = lift(array)
    if not x.node.shape:
        raise TypeError("cannot accumulate on a scalar")
    if op is None:
        return into(_out(out), _running(trace, ufunc, x, axis))
    if dtype is None and ufunc.__name__ not in _TYPED:
        dtype = x.dtype
    return scan(op, x, axis_of(axis, len(x.node.shape)), dtype, _out(out))


def _running(trace: Trace, ufunc: Any, x: Tracer, axis: Any) -> Tracer:
    """Step by step along a short axis."""
    a = axis_of(axis, len(x.node.shape))
    size = x.node.shape[a]
    if isinstance(size, Size) or size > _LONGEST:
        raise problem(UnsupportedError, f"np.{ufunc.__name__}.accumulate over an axis of size "
                      f"{size} is not traced", expected=", ".join(_SCANS))
    steps = [part(x.node, a, 0, 1)] if size else [x.node]
    for i in range(1, size):
        step = apply(trace, ufunc, (as_array(steps[-1]), as_array(part(x.node, a, i, i + 1))))
        steps.append(step.node)
    b = build()
    return as_array(b.concatenate(*(b.convert(s, steps[-1].dtype) for s in steps), axis=a))


def _outer(trace: Trace, ufunc: Any, left: Any, right: Any, **options: Any) -> Any:
    x, y = lift(left), lift(right)
    wide = build().reshape(x.node, (*x.node.shape, *[1] * len(y.node.shape)))
    first = Tracer(trace, wide, "array") if wide is not x.node else x
    dtype = options.pop("dtype", None)
    out = options.pop("out", None)
    return into(_out(out), apply(trace, ufunc, (first, y), dtype))


METHODS.update(reduce=_reduce, accumulate=_accumulate, outer=_outer)
