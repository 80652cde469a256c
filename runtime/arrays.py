"""Arguments as compiled code wants them: C-contiguous, aligned, native byte order, exact type."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from weft.devices.registry import owner_of

__all__ = ["Array", "canonical", "freeze", "is_canonical", "is_frozen", "own", "prepare",
           "straightened"]

Array = np.ndarray[Any, Any]
_NUMBERS = (float, int, bool, complex, np.generic)

def is_canonical(array: Array) -> bool:
    """Whether compiled code can read the array where it lies; read-only ones qualify.

    >>> [is_canonical(a) for a in (np.zeros(3), np.zeros((3, 4)).T, np.zeros(3, ">f4"))]
    [True, False, False]
    """
    flags = array.flags
    return (flags.carray or (flags.c_contiguous and flags.aligned)) and array.dtype.isnative


def canonical(array: Array) -> Array:
    """The array itself where `is_canonical`, else a copy that is."""
    if is_canonical(array):
        return array
    return np.require(array, array.dtype.newbyteorder("="), ("C", "A"))


def prepare(values: Sequence[Any], dtypes: Sequence[np.dtype[Any]]) -> list[Array]:
    """Arguments of any supported kind, numbers included, as canonical arrays of these types."""
    return [canonical(v) if type(v) is np.ndarray else _converted(v, dtype)
            for v, dtype in zip(values, dtypes)]


def own(values: Sequence[Any], donated: Sequence[int]) -> list[Any]:
    """The arguments, of which the donated arrays can be overwritten: copies stand in for those that
    are read-only, lie otherwise than compiled code wants it, or share memory with another one."""
    out = list(values)
    met: dict[int, int] = {}
    for v in out:
        if isinstance(v, np.ndarray):
            met[_root(v)] = met.get(_root(v), 0) + 1
    for i in donated:
        v = out[i]
        if isinstance(v, np.ndarray) and not (
                v.flags.carray and v.dtype.isnative and met[_root(v)] == 1):
            out[i] = np.array(v, v.dtype.newbyteorder("="), order="C")
    return out


def _root(array: Array) -> int:
    return id(array if array.base is None else array.base)


def straightened(values: Sequence[Any]) -> list[Any] | None:
    """The arguments with arrays made canonical, or None if all of them are already."""
    made = [canonical(v) if type(v) is np.ndarray else v for v in values]
    return made if any(a is not b for a, b in zip(made, values)) else None


def _converted(value: Any, dtype: np.dtype[Any]) -> Array:
    if isinstance(value, np.ndarray):           # a harmless subclass, such as memmap
        return canonical(value.view(np.ndarray))
    if not isinstance(value, _NUMBERS):         # it lies on a device
        owner = owner_of(value)
        assert owner is not None, f"{type(value)} is no array"
        return canonical(owner.memory.get(value))
    return np.array(value, dtype)


def is_frozen(array: np.ndarray[Any, Any]) -> bool:
    """Whether nothing can write to an array, nor to the one that it is a view of.

    >>> x = np.arange(3)
    >>> y = np.broadcast_to(x, (2, 3))
    >>> x.flags.writeable = False
    >>> is_frozen(x), is_frozen(y), is_frozen(np.arange(3))
    (True, True, False)
    """
    if array.flags.writeable:
        return False
    return not isinstance(array.base, np.ndarray) or is_frozen(array.base)


def freeze(array: np.ndarray[Any, Any]) -> None:
    """Let nobody write to an array, nor to the one that it is a view of."""
    array.flags.writeable = False
    if isinstance(array.base, np.ndarray):
        freeze(array.base)
