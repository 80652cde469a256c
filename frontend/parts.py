"""Arrays with some elements replaced, and parts at computed places, as functions without writes.

Inside of a traced function they add to the graph; on arrays, they are NumPy. An array that is not
needed afterwards is changed in place by compiled code, so that loops that carry one do not copy it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from weft.compiler.errors import ShapeError, UnsupportedError, caller_origin
from weft.compiler.ops.updates import COMBINE
from weft.frontend.numpy import updates
from weft.frontend.numpy.common import as_array
from weft.frontend.recording import active, lift
from weft.frontend.table import HOOKS

__all__ = ["dynamic_slice", "dynamic_update_slice", "index_update"]

Array = Any
_AT = {"add": np.add, "mul": np.multiply, "min": np.minimum, "max": np.maximum}


def index_update(x: Array, index: Any, value: Any, combine: str = "set") -> Array:
    """A copy of `x` after ``x[index] = value``, or with the value combined with what is there.

    Args:
        x: an array.
        index: anything that NumPy takes as an index of `x`: ints, slices, `None`, `...`, arrays of
            integers, masks. A mask may be traced if the value is the same for all its elements.
        value: what is written, broadcast to the shape of ``x[index]`` and converted to the element
            type of `x`.
        combine: ``"set"``, ``"add"``, ``"mul"``, ``"min"`` or ``"max"``. Where an element is met
            several times, the last value is set, and all are added (as `np.add.at` does).

    Raises `ShapeError` where the value does not fit, and an `IndexError` as NumPy does, at the call
    of the compiled function where indices are computed by it.

    >>> import numpy as np, weft
    >>> weft.index_update(np.zeros(4), [0, 2, 0], 1.0, "add")
    array([2., 0., 1., 0.])
    """
    if combine not in COMBINE:
        raise UnsupportedError(f"weft.index_update got combine={combine!r}",
                               expected=", ".join(COMBINE), origin=caller_origin())
    if HOOKS.holds_tracer((x, index, value)):
        _locate()
        return as_array(updates.updated(lift(x), index, value, combine))
    out = np.array(x)
    if combine == "set":
        out[index] = value
    else:
        _AT[combine].at(out, index, np.asarray(value).astype(out.dtype, copy=False))
    return out


def dynamic_slice(x: Array, starts: Sequence[Any], sizes: Sequence[int]) -> Array:
    """The part of `x` of shape `sizes` that begins at `starts`, which may be computed.

    A start below 0 counts from the end of its axis. Starts are moved so that the part lies inside
    of `x`, as XLA does it.

    Raises `ShapeError` where there is not one start and one size, of at most the array's, for every
    axis.

    >>> import numpy as np, weft
    >>> weft.dynamic_slice(np.arange(10), (8,), (4,))
    array([6, 7, 8, 9])
    """
    _check("dynamic_slice", x, starts, sizes)
    if HOOKS.holds_tracer((x, starts)):
        _locate()
        return as_array(updates.dynamic_slice(lift(x), starts, sizes))
    array = np.asarray(x)
    return array[_window(array, starts, sizes)].copy()


def dynamic_update_slice(x: Array, update: Array, starts: Sequence[Any]) -> Array:
    """A copy of `x` with `update` in the place that begins at `starts`; see `dynamic_slice`.

    Raises `ShapeError` where the update has another number of axes than `x`, or is larger.

    >>> import numpy as np, weft
    >>> weft.dynamic_update_slice(np.zeros(5), np.ones(2), (-1,))
    array([0., 0., 0., 1., 1.])
    """
    traced = HOOKS.holds_tracer((x, update, starts))
    sizes = lift(update).node.shape if traced else np.shape(update)
    _check("dynamic_update_slice", x, starts, sizes)
    if traced:
        _locate()
        return as_array(updates.dynamic_update_slice(lift(x), update, starts))
    out = np.array(x)
    out[_window(out, starts, sizes)] = update
    return out


def _locate() -> None:
    """Let the nodes that follow be of the user's line."""
    trace = active()
    if trace is not None:
        trace.locate()


def _check(name: str, x: Array, starts: Sequence[Any], sizes: Sequence[Any]) -> None:
    shape = tuple(x.shape if hasattr(x, "shape") else np.shape(x))
    fits = len(starts) == len(sizes) == len(shape) and all(
        not (isinstance(n, int) and isinstance(d, int)) or 0 <= n <= d
        for n, d in zip(sizes, shape))
    if not fits:
        raise ShapeError(
            f"weft.{name} got {len(starts)} start(s) and a part of shape {tuple(sizes)} for an "
            f"array of shape {shape}", expected="a start and a size, at most the array's, for "
            "every axis", origin=caller_origin())


def _window(x: np.ndarray[Any, Any], starts: Sequence[Any], sizes: Sequence[Any]
            ) -> tuple[slice, ...]:
    out = []
    for s, n, d in zip(starts, sizes, x.shape):
        begin = int(s) + d if s < 0 else int(s)
        begin = min(max(begin, 0), d - n)
        out.append(slice(begin, begin + n))
    return tuple(out)
