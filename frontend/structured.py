"""Arrays whose values follow a rule: the ops that compute them, in place of the values.

A function that is traced calls ``np.arange``, ``np.tri`` or ``np.zeros`` for real, and compares
their results, before anything that is traced is touched. What comes of it would be memory to read:
of an attention's mask, a byte for each pair. The rule costs nothing, and compilers see through it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from weft.compiler.build import Builder
from weft.compiler.ir import Node
from weft.compiler.types import dtype_of

__all__ = ["structured"]

Array: TypeAlias = np.ndarray[Any, Any]
Rule: TypeAlias = Callable[[Builder], Node]

FEW = 64            # elements, up to which values are as good


def structured(value: Array) -> Rule | None:
    """What adds nodes that compute the array, to the bit; None where no rule was found.

    Rules are: one value everywhere; integers at equal distances along the only axis that is longer
    than 1; a matrix of truth values that are true on one side of a diagonal.

    >>> b = Builder()
    >>> print(structured(np.tri(9, 9, dtype=bool))(b).opname, structured(np.arange(70) % 7))
    le None
    """
    if value.size <= FEW:
        return None
    long = [d for d in value.shape if d != 1]
    if len(long) == 2 and value.dtype == bool and value.shape[-1] == long[1]:
        found = _triangle(value)
        if found is not None:
            return found
    if len(long) == 1 and value.dtype.kind in "iu":
        found = _progression(value)
        if found is not None:
            return found
    return _uniform(value)


def _uniform(value: Array) -> Rule | None:
    raw = np.ascontiguousarray(value).view(np.uint8).reshape(-1, value.dtype.itemsize)
    first = value[(slice(0, 1),) * value.ndim].reshape(())      # a view of the first element
    if not (raw[-1] == raw[0]).all() or not (raw == raw[0]).all():
        return None
    return lambda b: b.broadcast(b.add("constant", value=np.array(first)), value.shape, ())


def _progression(value: Array) -> Rule | None:
    flat, dtype = value.reshape(-1), value.dtype
    if flat.size - 1 > np.iinfo(dtype).max:
        return None
    start, step = flat[0], int(flat[1]) - int(flat[0])
    if step == 0 or not np.iinfo(dtype).min <= step <= np.iinfo(dtype).max:
        return None
    count = np.arange(flat.size, dtype=dtype)
    if not np.array_equal(count * dtype.type(step) + start, flat):     # which may wrap, as it will
        return None
    axis = int(np.argmax(value.shape))

    def made(b: Builder) -> Node:
        x = b.iota(shape=value.shape, axis=axis, dtype=dtype_of(dtype))
        x = x if step == 1 else b.mul(x, b.add("constant", value=np.asarray(dtype.type(step))))
        return x if start == 0 else b.add("add", x, b.add("constant", value=np.asarray(start)))
    return made


def _triangle(value: Array) -> Rule | None:
    """True up to a diagonal, or behind one."""
    n, m = (d for d in value.shape if d != 1)
    matrix = value.reshape(n, m)
    counts = matrix.sum(axis=1)
    within = np.flatnonzero((counts > 0) & (counts < m))
    if not within.size:
        return None
    row = int(within[0])
    upto = bool(matrix[row, 0])                 # true at the left, or at the right
    many = int(counts[row]) if upto else m - int(counts[row])
    offset = many - 1 - row
    if not np.array_equal(matrix, np.tri(n, m, offset, dtype=bool) == upto):
        return None
    rows = next(i for i, d in enumerate(value.shape) if d != 1)

    def made(b: Builder) -> Node:
        i, j = (b.iota(shape=value.shape, axis=a, dtype=dtype_of("i32"))
                for a in (rows, value.ndim - 1))
        if offset:
            i = b.add("add", i, b.add("constant", value=np.asarray(offset, np.int32)))
        return b.le(j, i) if upto else b.gt(j, i)
    return made
