"""Matrices: eye, triangles, diagonals, vander."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from weft.compiler.errors import UnsupportedError
from weft.compiler.ir import Node
from weft.compiler.types import DTYPES, Dim, Shape, dtype_of
from weft.frontend.numpy.common import (
    Array,
    as_array,
    as_dim,
    axis_of,
    build,
    element,
    lift,
    view,
)
from weft.frontend.numpy.creation import filled, iota
from weft.frontend.problems import problem, shape_error
from weft.frontend.table import implements
from weft.frontend.tracer import Tracer

__all__ = ["diagonal", "diagonal_node"]


def _grid(shape: Shape, axis: int) -> Node:
    return build().iota(shape=shape, axis=axis, dtype=DTYPES["i64"])


@implements(np.eye)
def eye(N: Any, M: Any = None, k: Any = 0, dtype: Any = float, order: Any = "C", *,
        device: Any = None, like: Any = None) -> Tracer:
    """`np.eye`."""
    shape = (as_dim(N), as_dim(N if M is None else M))
    b = build()
    column = b.sub(_grid(shape, 1), b.scalar(operator.index(k), "i64"))
    return as_array(b.convert(b.eq(_grid(shape, 0), column), element(dtype)))


@implements(np.identity)
def _identity(n: Any, dtype: Any = None, *, like: Any = None) -> Tracer:
    return eye(n, dtype=dtype or float)


def lower_mask(shape: Shape, k: int) -> Node:
    """True on and below the k-th diagonal."""
    b = build()
    column = b.sub(_grid(shape, 1), b.scalar(k, "i64"))
    return b.ge(_grid(shape, 0), column)


@implements(np.tri)
def _tri(N: Any, M: Any = None, k: Any = 0, dtype: Any = float, *, like: Any = None) -> Tracer:
    shape = (as_dim(N), as_dim(N if M is None else M))
    return as_array(build().convert(lower_mask(shape, operator.index(k)), element(dtype)))


def _triangle(lower: bool) -> Callable[..., Tracer]:
    def part(m: Array, k: Any = 0) -> Tracer:
        b, x = build(), lift(m).node
        if len(x.shape) == 1:                      # NumPy makes a matrix of equal rows
            x = b.broadcast(x, (*x.shape, *x.shape))
        mask = lower_mask(x.shape[-2:], operator.index(k) - (0 if lower else 1))
        mask = b.broadcast(mask if lower else b.not_(mask), x.shape)
        return as_array(b.select(mask, x, b.scalar(0, x.dtype)))
    return part


tril = implements(np.tril)(_triangle(True))
triu = implements(np.triu)(_triangle(False))


@implements(np.vander)
def _vander(x: Array, N: Any = None, increasing: bool = False) -> Tracer:
    t = lift(x)
    if len(t.node.shape) != 1:
        raise shape_error("x must be a one-dimensional array or sequence.")
    n: Any = t.node.shape[0] if N is None else operator.index(N)
    b = build()
    dtype = dtype_of(np.promote_types(t.dtype, int))
    rows = t.node.shape[0]
    if n == 0:
        return as_array(filled((rows, 0), 0, dtype))
    column = b.reshape(b.convert(t.node, dtype), (rows, 1))
    columns = [filled((rows, 1), 1, dtype)]
    if n > 1:
        powers = b.cumprod(b.broadcast(column, (rows, n - 1)), axis=1)
        columns.append(powers)
    node = b.concatenate(*columns, axis=1)
    return as_array(node if increasing else b.reverse(node, axes=(1,)))


# ---- diagonals

@implements(np.diagonal, np.linalg.diagonal, methods=("diagonal",))
def diagonal(a: Array, offset: Any = 0, axis1: Any = 0, axis2: Any = 1) -> Tracer:
    """`np.diagonal`."""
    x = lift(a)
    return view(x, diagonal_node(x.node, operator.index(offset), axis1, axis2))


def diagonal_node(x: Node, offset: int, axis1: Any, axis2: Any) -> Node:
    """The diagonal of two axes, as the last axis of the result."""
    b, shape = build(), x.shape
    n: Dim
    if len(shape) < 2:
        raise shape_error("diag requires an array of at least two dimensions")
    i, j = axis_of(axis1, len(shape)), axis_of(axis2, len(shape))
    if i == j:
        raise shape_error("axis1 and axis2 cannot be the same")
    rows, columns = shape[i], shape[j]
    down, right = max(-offset, 0), max(offset, 0)
    if isinstance(rows, int) and isinstance(columns, int):
        n = max(0, min(rows - down, columns - right))
    elif rows == columns:
        n = rows - abs(offset)
    else:
        raise problem(UnsupportedError, f"the diagonal of axes of sizes {rows} and {columns} has "
                      "a length that is no polynomial", repair="slice to a square first")
    line = iota(n)
    pick = [b.add_(line, b.scalar(s, "i64")) if s else line for s in (down, right)]
    return b.gather(x, *pick, axes=(i, j), position=len(shape) - 2, mode="clip")


@implements(np.diag)
def _diag(v: Array, k: Any = 0) -> Tracer:
    x, offset = lift(v), operator.index(k)
    rank = len(x.node.shape)
    if rank == 2:
        return diagonal(x, offset)
    if rank != 1:
        raise shape_error("Input must be 1- or 2-d.")
    b, n = build(), x.node.shape[0]
    size = n + abs(offset)
    line = b.reshape(b.pad(x.node, b.scalar(0, x.element), low=(max(offset, 0),),
                           high=(max(-offset, 0),)), (1, size))
    on = b.eq(_grid((size, size), 1), b.add_(_grid((size, size), 0), b.scalar(offset, "i64")))
    return as_array(b.select(on, b.broadcast(line, (size, size)), b.scalar(0, x.element)))


@implements(np.diagflat)
def _diagflat(v: Array, k: Any = 0) -> Tracer:
    b, x = build(), lift(v)
    return _diag(as_array(b.reshape(x.node, (x.node.tensor.size,))), k)
