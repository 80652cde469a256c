"""Picking elements by index arrays: take, take_along_axis, compress, ix_, index arithmetic."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

from weft.compiler.ir import Node
from weft.compiler.types import DTYPES
from weft.frontend.numpy.common import (
    Array,
    as_array,
    as_list,
    axis_of,
    build,
    into,
    lift,
    result,
)
from weft.frontend.numpy.indexing import index_error, index_node, refuse_mask
from weft.frontend.numpy.shapes import ravel
from weft.frontend.numpy.ufuncs import broadcast_shape
from weft.frontend.problems import shape_error
from weft.frontend.table import HOOKS, implements, method
from weft.frontend.tracer import Tracer

__all__ = ["along_axis", "take"]

_I64 = DTYPES["i64"]


def _integer_indices(indices: Any, axis: int, size: Any) -> tuple[Node, str]:
    if type(indices) is Tracer or (isinstance(indices, (list, tuple))
                                   and HOOKS.holds_tracer(indices)):
        x = lift(indices)
        if not (x.element.is_integer or x.element.kind == "bool"):
            raise TypeError(f"Cannot cast array data from {x.dtype!r} to dtype('int64') according "
                            "to the rule 'safe'")
        return build().convert(x.node, _I64), "raise"
    array = np.asarray(indices)
    if array.dtype.kind not in "iub" and array.size:
        raise TypeError(f"Cannot cast array data from {array.dtype!r} to dtype('int64') according "
                        "to the rule 'safe'")
    if not isinstance(indices, np.ndarray):
        array = array.astype(np.int64)
        array.flags.writeable = False              # nobody else has it: a constant
    return index_node(array, axis, size)


@implements(np.take)
def take(a: Array, indices: Array, axis: Any = None, out: Any = None, mode: str = "raise") -> Any:
    """`np.take`."""
    x = lift(a)
    if axis is None:
        x, axis = ravel(x), 0
    i = axis_of(axis, max(len(x.node.shape), 1))
    if not x.node.shape:
        x = ravel(x)
    if mode == "raise":
        where, gather_mode = _integer_indices(indices, i, x.node.shape[i])
    else:
        where, gather_mode = build().convert(lift(indices).node, _I64), mode
    if x.node.shape[i] == 0 and where.tensor.size != 0:
        raise index_error("cannot do a non-empty take from an empty axes.")
    node = build().gather(x.node, where, axes=(i,), position=i, mode=gather_mode)
    return into(out, result(node))


@method("take")
def _take_method(x: Tracer, indices: Array, axis: Any = None, out: Any = None,
                 mode: str = "raise") -> Any:
    return take(x, indices, axis, out, mode)


def along_axis(x: Node, indices: Node, axis: int, mode: str = "raise") -> Node:
    """Elements of `x` at `indices` along one axis, the other axes matched (or broadcast)."""
    b, rank = build(), len(x.shape)
    rest = [n.shape[:axis] + (1,) + n.shape[axis + 1:] for n in (x, indices)]
    shape = list(broadcast_shape(rest))
    shape[axis] = indices.shape[axis]
    picks = [b.broadcast(indices, tuple(shape)) if a == axis
             else b.iota(shape=tuple(shape), axis=a, dtype=_I64) for a in range(rank)
             if a == axis or x.shape[a] != 1]
    axes = tuple(a for a in range(rank) if a == axis or x.shape[a] != 1)
    ones = tuple(a for a in range(rank) if a not in axes)
    if ones:                                       # size-1 axes are dropped, then broadcast back
        x = b.reshape(x, tuple(d for a, d in enumerate(x.shape) if a not in ones))
    at = {a: i for i, a in enumerate(axes)}
    return b.gather(x, *picks, axes=tuple(at[a] for a in axes), position=0, mode=mode)


@implements(np.take_along_axis)
def _take_along_axis(arr: Array, indices: Array, axis: Any = -1) -> Tracer:
    x = lift(arr)
    if axis is None:
        if len(lift(indices).node.shape) != 1:
            raise shape_error("when axis=None, `indices` must have a single dimension.")
        x, axis = ravel(x), 0
    i = axis_of(axis, len(x.node.shape))
    if not lift(indices).element.is_integer:
        raise index_error("`indices` must be an integer array")
    where, mode = _integer_indices(indices, i, x.node.shape[i])
    if len(where.shape) != len(x.node.shape):
        raise shape_error("`indices` and `arr` must have the same number of dimensions")
    return as_array(along_axis(x.node, where, i, mode))


@implements(np.compress)
def _compress(condition: Array, a: Array, axis: Any = None, out: Any = None) -> Any:
    if type(condition) is Tracer:
        raise refuse_mask("np.compress(mask, x)")
    mask = np.asarray(condition)
    if mask.ndim != 1:
        raise shape_error("condition must be a 1-d array")
    return take(a, mask.nonzero()[0], axis, out)


@method("compress")
def _compress_method(x: Tracer, condition: Array, axis: Any = None, out: Any = None) -> Any:
    return _compress(condition, x, axis, out)


@implements(np.extract)
def _extract(condition: Array, arr: Array) -> Any:
    if type(condition) is Tracer:
        raise refuse_mask("np.extract(mask, x)")
    return take(ravel(arr), np.asarray(condition).ravel().nonzero()[0])


@implements(np.ix_)
def _ix(*args: Array) -> tuple[Tracer, ...]:
    out, n = [], len(args)
    for k, arg in enumerate(args):
        x = lift(arg)
        if len(x.node.shape) != 1:
            raise shape_error("Cross index must be 1 dimensional")
        if x.element.kind == "bool":
            raise refuse_mask("np.ix_ of a mask")
        shape = tuple(x.node.shape[0] if i == k else 1 for i in range(n))
        out.append(as_array(build().reshape(x.node, shape)))
    return tuple(out)


@implements(np.unravel_index)
def _unravel_index(indices: Array, shape: Any, order: str = "C") -> tuple[Any, ...]:
    x, b = lift(indices), build()
    sizes = [operator.index(d) for d in (shape if isinstance(shape, (tuple, list)) else (shape,))]
    node = b.convert(x.node, _I64)
    out: list[Any] = []
    for d in (reversed(sizes) if order == "C" else sizes):
        size = b.scalar(d, "i64")
        out.append(result(b.remainder(node, size)))
        node = b.floor_divide(node, size)
    return tuple(reversed(out)) if order == "C" else tuple(out)


@implements(np.ravel_multi_index)
def _ravel_multi_index(multi_index: Any, dims: Any, mode: Any = "raise", order: str = "C") -> Any:
    b = build()
    sizes = [operator.index(d) for d in dims]
    modes = [mode] * len(sizes) if isinstance(mode, str) else list(mode)
    total: Any = 0
    parts = list(zip(multi_index, sizes, modes))
    for index, size, how in (parts if order == "C" else reversed(parts)):
        node = b.convert(lift(index).node, _I64)
        if how == "wrap":
            node = b.remainder(node, b.scalar(size, "i64"))
        elif how == "clip":
            node = b.minimum(b.maximum(node, b.scalar(0, "i64")), b.scalar(size - 1, "i64"))
        total = total * size + as_array(node) if not isinstance(total, int) else as_array(node)
    return result(total.node)


def _from_shape(function: Any) -> Any:
    def indices(arr: Array, k: Any = 0) -> Any:
        shape = lift(arr).node.shape
        if len(shape) != 2:
            raise shape_error("input array must be 2-d")
        return function(shape[0], k=operator.index(k), m=shape[1])
    return indices


implements(np.tril_indices_from)(_from_shape(np.tril_indices))
implements(np.triu_indices_from)(_from_shape(np.triu_indices))


@implements(np.diag_indices_from)
def _diag_indices_from(arr: Array) -> Any:
    shape = lift(arr).node.shape
    if len(shape) < 2:
        raise shape_error("input array must be at least 2-d")
    if len(set(shape)) != 1:
        raise shape_error("All dimensions of input must be of equal length")
    return np.diag_indices(shape[0], len(shape))  # type: ignore[arg-type]


@implements(np.lib.stride_tricks.sliding_window_view)
def _sliding_window_view(x: Array, window_shape: Any, axis: Any = None, *, subok: bool = False,
                         writeable: bool = False) -> Tracer:
    t, b = lift(x), build()
    sizes = [operator.index(w) for w in as_list(window_shape)]
    rank = len(t.node.shape)
    axes = [axis_of(a, rank) for a in (range(rank) if axis is None else as_list(axis))]
    if len(sizes) != len(axes):
        raise shape_error(f"Must provide matching length window_shape and axis; got {len(sizes)} "
                          f"window_shape elements and {len(axes)} axes elements.")
    if any(size < 0 for size in sizes):
        raise shape_error("`window_shape` cannot contain negative values")
    node = t.node
    for size, a in zip(sizes, axes):
        count: Any = node.shape[a]
        if isinstance(count, int) and count < size:
            raise shape_error("window shape cannot be larger than input array shape")
        if size == 0:
            shape = (*node.shape[:a], count + 1, *node.shape[a + 1:], 0)
            node = b.broadcast(b.scalar(0, node.dtype), shape)
        else:
            node = b.window(node, axes=(a,), size=(size,), stride=(1,), dilation=(1,))
    return as_array(node)
