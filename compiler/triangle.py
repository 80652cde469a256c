"""Masks that are known for what they are: true up to a diagonal."""

from __future__ import annotations

from math import prod

import numpy as np

__all__ = ["diagonal_of"]


def diagonal_of(array: np.ndarray) -> int | None:
    """By how much the diagonal up to which a matrix is true lies above the main one, as `k` of
    `np.tri`; None if it is none, or holds no booleans. Leading axes have to be of length 1.

    >>> diagonal_of(np.tri(3, 5, 1, dtype=bool)), diagonal_of(np.tri(3, 5, -1, dtype=bool))
    (1, -1)
    >>> diagonal_of(np.ones((2, 2)))
    """
    if array.dtype != bool or array.ndim < 2 or not array.size \
            or array.size != prod(array.shape[-2:]):
        return None
    table = array.reshape(array.shape[-2:])
    offset = int(table[0].sum()) - 1 if table[0, 0] else -int((~table[:, 0]).sum())
    same = np.array_equal(table, np.tri(*table.shape, offset, dtype=bool))
    return offset if same else None
