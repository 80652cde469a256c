"""Elements turned round, rolled and repeated: flip, rot90, roll, tile, repeat."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

from weft.compiler.errors import DataDependentError
from weft.compiler.ir import Node
from weft.compiler.types import Dim, Size
from weft.frontend.numpy.common import (
    Array,
    as_array,
    as_dim,
    as_list,
    as_shape,
    axes_of,
    axis_of,
    build,
    lift,
    result,
    view,
)
from weft.frontend.numpy.shapes import ravel, swapaxes
from weft.frontend.numpy.ufuncs import shape_str
from weft.frontend.problems import problem, shape_error
from weft.frontend.table import implements
from weft.frontend.tracer import Tracer

__all__ = ["flip"]


# ---- order of elements

@implements(np.flip)
def flip(m: Array, axis: Any = None) -> Tracer:
    """`np.flip`."""
    x = lift(m)
    axes = axes_of(axis, len(x.node.shape))
    return view(x, build().reverse(x.node, axes=axes)) if axes else result(x.node)


@implements(np.flipud)
def _flipud(m: Array) -> Tracer:
    _check_rank(lift(m), 1)
    return flip(m, 0)


@implements(np.fliplr)
def _fliplr(m: Array) -> Tracer:
    _check_rank(lift(m), 2)
    return flip(m, 1)


def _check_rank(x: Tracer, rank: int) -> None:
    if len(x.node.shape) < rank:
        raise shape_error(f"Input must be >= {rank}-d.")


@implements(np.rot90)
def _rot90(m: Array, k: Any = 1, axes: Any = (0, 1)) -> Tracer:
    x = lift(m)
    rank = len(x.node.shape)
    if len(axes) != 2:
        raise shape_error("len(axes) must be 2.")
    i, j = axis_of(axes[0], rank), axis_of(axes[1], rank)
    if i == j:
        raise shape_error("Axes must be different.")
    k = operator.index(k) % 4
    if k == 0:
        return view(x, x.node)
    if k == 2:
        return flip(x, (i, j))
    return swapaxes(flip(x, j), i, j) if k == 1 else flip(swapaxes(x, i, j), j)


def _rolled(node: Node, shift: int, axis: int) -> Node:
    size = node.shape[axis]
    if isinstance(size, int):
        shift = shift % size if size else 0
        if shift == 0:
            return node
        cut: Dim = size - shift
    else:
        cut = size - shift if shift > 0 else -shift
    b = build()
    return b.concatenate(_part(node, axis, cut, size), _part(node, axis, 0, cut), axis=axis)


def _part(node: Node, axis: int, low: Dim, high: Dim) -> Node:
    rank = len(node.shape)
    start = tuple(low if a == axis else 0 for a in range(rank))
    limit = tuple(high if a == axis else d for a, d in enumerate(node.shape))
    return build().slice(node, start=start, limit=limit, stride=(1,) * rank)


@implements(np.roll)
def _roll(a: Array, shift: Any, axis: Any = None) -> Tracer:
    x = lift(a)
    node, shape = x.node, x.node.shape
    if axis is None:
        flat = _roll(ravel(x), shift, 0)
        return as_array(build().reshape(flat.node, shape))
    shifts, axes = as_list(shift), as_list(axis)
    pairs = np.broadcast_arrays([operator.index(s) for s in shifts],
                                [axis_of(i, len(shape)) for i in axes])
    totals: dict[int, int] = {}
    for s, i in zip(*(p.tolist() for p in pairs)):
        totals[i] = totals.get(i, 0) + s
    for i, s in totals.items():
        node = _rolled(node, s, i)
    return as_array(node)


# ---- repetition

@implements(np.tile)
def _tile(A: Array, reps: Any) -> Tracer:
    x = lift(A)
    b, times = build(), as_shape(reps)
    rank = max(len(times), len(x.node.shape))
    times = (1,) * (rank - len(times)) + times
    shape = (1,) * (rank - len(x.node.shape)) + x.node.shape
    node = b.reshape(x.node, tuple(v for d in shape for v in (1, d)))
    node = b.broadcast(node, tuple(v for t, d in zip(times, shape) for v in (t, d)))
    return as_array(b.reshape(node, tuple(t * d for t, d in zip(times, shape))))


@implements(np.repeat, methods=("repeat",))
def _repeat(a: Array, repeats: Any, axis: Any = None) -> Tracer:
    x = lift(a)
    if axis is None:
        x, axis = ravel(x), 0
    node, shape = x.node, x.node.shape
    i = axis_of(axis, len(shape))
    if type(repeats) is Tracer and isinstance(repeats.value, Size):
        counts: Any = as_dim(repeats)
    else:
        counts = _static_counts(repeats)
    b = build()
    if isinstance(counts, (int, Size)):
        wide = b.reshape(node, (*shape[:i + 1], 1, *shape[i + 1:]))
        wide = b.broadcast(wide, (*shape[:i + 1], counts, *shape[i + 1:]))
        return as_array(b.reshape(wide, (*shape[:i], shape[i] * counts, *shape[i + 1:])))
    if len(counts) != shape[i]:
        raise shape_error("operands could not be broadcast together with shape "
                          f"{shape_str((shape[i],))} {shape_str((len(counts),))}")
    indices = b.constant(np.repeat(np.arange(len(counts)), counts))
    return as_array(b.gather(node, indices, axes=(i,), position=i, mode="clip"))


def _static_counts(repeats: Any) -> Any:
    if type(repeats) is Tracer and not repeats.weak:
        raise problem(
            DataDependentError, "the shape of the result of np.repeat depends on the counts, "
            "which are not known while tracing", repair="pass the counts as Python ints")
    if isinstance(repeats, (list, tuple, np.ndarray)) and np.ndim(repeats):
        counts = [operator.index(r) for r in np.asarray(repeats).tolist()]
    else:
        counts = [operator.index(repeats)]
    if any(c < 0 for c in counts):
        raise shape_error("repeats may not contain negative values.")
    return counts[0] if len(counts) == 1 else counts
