"""Putting arrays together and taking them apart: concatenate, stack, split, pad, insert, …"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from weft.compiler.errors import UnsupportedError
from weft.compiler.ir import Node
from weft.compiler.types import Dim
from weft.frontend.numpy.common import (
    Array,
    as_array,
    axis_of,
    build,
    element,
    into,
    lift,
    result,
    same_dtype,
    view,
)
from weft.frontend.numpy.shapes import atleast_1d, atleast_2d, atleast_3d, ravel, transpose
from weft.frontend.numpy.ufuncs import shape_str
from weft.frontend.problems import problem, shape_error
from weft.frontend.table import implements
from weft.frontend.tracer import Tracer

__all__ = ["concatenate", "part", "stack"]


def _lifted(arrays: Any) -> list[Tracer]:
    if type(arrays) is Tracer:
        return list(arrays)
    return [lift(a) for a in arrays]


# ---- joining

@implements(np.concatenate)
def concatenate(arrays: Any, /, axis: Any = 0, out: Any = None, *, dtype: Any = None,
                casting: str = "same_kind") -> Any:
    """`np.concatenate`."""
    xs = _lifted(arrays)
    if not xs:
        raise shape_error("need at least one array to concatenate")
    if axis is None:
        xs, axis = [ravel(x) for x in xs], 0
    nodes = same_dtype(xs, None if dtype is None else element(dtype))
    rank = len(nodes[0].shape)
    if rank == 0:
        raise shape_error("zero-dimensional arrays cannot be concatenated", None,
                          "use np.stack or np.append")
    a = axis_of(axis, rank)
    _check_joinable(nodes, a)
    return into(out, as_array(build().concatenate(*nodes, axis=a)), casting)


def _check_joinable(nodes: Sequence[Node], axis: int) -> None:
    first = nodes[0].shape
    for k, node in enumerate(nodes[1:], 1):
        if len(node.shape) != len(first):
            raise shape_error(
                "all the input array dimensions must match exactly, but along dimension 0, the "
                f"array at index 0 has {len(first)} dimension(s) and the array at index {k} has "
                f"{len(node.shape)} dimension(s)", "arrays of equal rank")
        for i, (d, e) in enumerate(zip(first, node.shape)):
            if i != axis and d != e:
                raise shape_error(
                    "all the input array dimensions except for the concatenation axis must match "
                    f"exactly, but along dimension {i}, the array at index 0 has size {d} and the "
                    f"array at index {k} has size {e}")


@implements(np.stack)
def stack(arrays: Any, axis: Any = 0, out: Any = None, *, dtype: Any = None,
          casting: str = "same_kind") -> Any:
    """`np.stack`."""
    xs = _lifted(arrays)
    if not xs:
        raise shape_error("need at least one array to stack")
    shape = xs[0].node.shape
    if any(x.node.shape != shape for x in xs):
        raise shape_error("all input arrays must have the same shape", "equal shapes, got "
                          + " and ".join(shape_str(x.node.shape) for x in xs))
    a = axis_of(axis, len(shape) + 1)
    b = build()
    wide = [as_array(b.reshape(n, (*shape[:a], 1, *shape[a:]))) for n in same_dtype(xs)]
    return concatenate(wide, a, out, dtype=dtype, casting=casting)


@implements(np.vstack)
def _vstack(tup: Any, *, dtype: Any = None, casting: str = "same_kind") -> Any:
    return concatenate([atleast_2d(x) for x in _lifted(tup)], 0, dtype=dtype, casting=casting)


@implements(np.hstack)
def _hstack(tup: Any, *, dtype: Any = None, casting: str = "same_kind") -> Any:
    xs = [atleast_1d(x) for x in _lifted(tup)]
    axis = 0 if xs and len(xs[0].node.shape) == 1 else 1
    return concatenate(xs, axis, dtype=dtype, casting=casting)


@implements(np.dstack)
def _dstack(tup: Any) -> Any:
    return concatenate([atleast_3d(x) for x in _lifted(tup)], 2)


@implements(np.column_stack)
def _column_stack(tup: Any) -> Any:
    xs = _lifted(tup)
    return concatenate([x if len(x.node.shape) >= 2 else transpose(atleast_2d(x)) for x in xs], 1)


@implements(np.append)
def _append(arr: Array, values: Array, axis: Any = None) -> Any:
    x, v = lift(arr), lift(values)
    if axis is None:
        x, v, axis = ravel(x), ravel(v), 0
    return concatenate([x, v], axis)


@implements(np.block)
def _block(arrays: Any) -> Any:
    depth, rank = _depth(arrays), _rank(arrays)
    node = _blocks(arrays, 0, depth, max(depth, rank))
    return as_array(node)


def _depth(value: Any) -> int:
    return 1 + max(map(_depth, value), default=0) if isinstance(value, list) else 0


def _rank(value: Any) -> int:
    if isinstance(value, list):
        return max(map(_rank, value), default=0)
    return len(lift(value).node.shape)


def _blocks(value: Any, level: int, depth: int, rank: int) -> Node:
    if not isinstance(value, list):
        node = lift(value).node
        return build().reshape(node, (1,) * (rank - len(node.shape)) + node.shape)
    if not value:
        raise shape_error("List at arrays cannot be empty")
    parts = [as_array(_blocks(v, level + 1, depth, rank)) for v in value]
    return concatenate(parts, rank - depth + level).node  # type: ignore[no-any-return]


# ---- splitting

def part(node: Node, axis: int, low: Dim, high: Dim) -> Node:
    """The elements from `low` up to `high` along one axis."""
    rank = len(node.shape)
    start = tuple(low if a == axis else 0 for a in range(rank))
    limit = tuple(high if a == axis else d for a, d in enumerate(node.shape))
    if start[axis] == 0 and limit == node.shape:
        return node
    return build().slice(node, start=start, limit=limit, stride=(1,) * rank)


def _cuts(size: int, sections: Any) -> list[tuple[int, int]]:
    if isinstance(sections, (list, tuple, np.ndarray)):
        points = [0, *(operator.index(i) for i in sections), size]
        bounds = [slice(i, j).indices(size)[:2] for i, j in pairwise(points)]
        return [(i, max(i, j)) for i, j in bounds]
    n = operator.index(sections)
    if n <= 0:
        raise shape_error("number sections must be larger than 0.")
    each, extra = divmod(size, n)
    ends = np.cumsum([0] + extra * [each + 1] + (n - extra) * [each]).tolist()
    return list(pairwise(ends))


def _split(x: Tracer, sections: Any, axis: Any) -> list[Tracer]:
    a = axis_of(axis, len(x.node.shape))
    size = x.node.shape[a]
    if not isinstance(size, int):
        n = operator.index(sections)
        each = size // n
        cuts: Any = [(each * i, each * (i + 1)) for i in range(n)]
    else:
        cuts = _cuts(size, sections)
    return [view(x, part(x.node, a, i, j)) for i, j in cuts]


@implements(np.array_split)
def _array_split(ary: Array, indices_or_sections: Any, axis: Any = 0) -> list[Tracer]:
    return _split(lift(ary), indices_or_sections, axis)


@implements(np.split)
def split(ary: Array, indices_or_sections: Any, axis: Any = 0) -> list[Tracer]:
    """`np.split`."""
    x = lift(ary)
    size = x.node.shape[axis_of(axis, len(x.node.shape))]
    if not isinstance(indices_or_sections, (list, tuple, np.ndarray)) and isinstance(size, int) \
            and size % operator.index(indices_or_sections):
        raise shape_error("array split does not result in an equal division",
                          f"a divisor of {size}", "use np.array_split")
    return _split(x, indices_or_sections, axis)


def _split_along(axis: int, least: int, name: str) -> Callable[..., list[Tracer]]:
    def cut(ary: Array, indices_or_sections: Any) -> list[Tracer]:
        x = lift(ary)
        rank = len(x.node.shape)
        if rank < least:
            raise shape_error(f"{name} only works on arrays of {least} or more dimensions")
        return split(x, indices_or_sections, 0 if rank == 1 else axis)
    return cut


implements(np.hsplit)(_split_along(1, 1, "hsplit"))
implements(np.vsplit)(_split_along(0, 2, "vsplit"))
implements(np.dsplit)(_split_along(2, 3, "dsplit"))


@implements(np.unstack)
def _unstack(x: Array, /, *, axis: Any = 0) -> tuple[Tracer, ...]:
    t = lift(x)
    if not t.node.shape:
        raise shape_error("Input array must be at least 1-d.")
    a = axis_of(axis, len(t.node.shape))
    shape = t.node.shape
    size = shape[a]
    if not isinstance(size, int):
        raise problem(UnsupportedError, f"np.unstack along an axis of symbolic size {size}",
                      repair="compile for a fixed size")
    b = build()
    rest = (*shape[:a], *shape[a + 1:])
    pieces = [b.reshape(part(t.node, a, i, i + 1), rest) for i in range(size)]
    return tuple(view(t, p) if rest else result(p) for p in pieces)


# ---- inserting and deleting, at places known while tracing

def _places(obj: Any, size: int) -> Any:
    if isinstance(obj, slice):
        return np.arange(*obj.indices(size))
    if type(obj) is Tracer and obj.value is None:
        raise problem(UnsupportedError, "the places to insert or delete at must be known while "
                      "tracing", repair="pass them as Python ints")
    return np.asarray(operator.index(obj) if type(obj) is Tracer else obj)


@implements(np.delete)
def _delete(arr: Array, obj: Any, axis: Any = None) -> Tracer:
    x = lift(arr)
    if axis is None:
        x, axis = ravel(x), 0
    a = axis_of(axis, len(x.node.shape))
    size: Any = x.node.shape[a]
    keep = np.delete(np.arange(size), _places(obj, size))
    return as_array(_pick(x.node, keep, a))


def _pick(node: Node, places: Any, axis: int) -> Node:
    b = build()
    indices = b.constant(np.asarray(places, np.int64))
    return b.gather(node, indices, axes=(axis,), position=axis, mode="clip")


@implements(np.insert)
def _insert(arr: Array, obj: Any, values: Array, axis: Any = None) -> Tracer:
    x, v, b = lift(arr), lift(values), build()
    if axis is None:
        x, axis = ravel(x), 0
    a = axis_of(axis, len(x.node.shape))
    shape: Any = x.node.shape
    size, places = shape[a], _places(obj, shape[a])
    old = np.insert(np.arange(size), places, -1)
    count: Any = len(old) - size
    new = b.convert(v.node, x.element)
    if places.ndim == 0:                           # NumPy moves values' first axis to the place
        new = b.reshape(new, (1,) * (len(shape) - len(new.shape)) + new.shape)
        order = list(range(1, len(shape)))
        order.insert(a, 0)
        if a:
            new = b.transpose(new, perm=tuple(order))
        count = new.shape[a] if isinstance(new.shape[a], int) else count
        at = int(places) % (size + 1) if places < 0 else int(places)
        old = np.insert(np.arange(size), [at] * operator.index(count), -1)
    new = b.broadcast(new, (*shape[:a], count, *shape[a + 1:]))
    # every result element is an old one or, in the order of `places`, a new one
    picks = np.where(old >= 0, old, 0)
    rank = np.argsort(np.argsort(np.where(places < 0, places + size, places).ravel(),
                                 kind="stable"), kind="stable") if places.ndim else np.arange(count)
    source = np.argsort(rank, kind="stable") if places.ndim and len(rank) == count \
        else np.arange(count)
    picks[old < 0] = size + source
    return as_array(_pick(b.concatenate(x.node, new, axis=a), picks, a))
