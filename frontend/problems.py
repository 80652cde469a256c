"""Errors of the NumPy front: weft's own, which are NumPy's too, located at the user's line."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

import numpy as np

from weft.compiler.errors import DTypeError, ShapeError, WeftError, caller_origin

__all__ = ["AxisError", "IntegerRangeError", "UnboundedIntegerError", "close_names", "dtype_error",
           "problem", "shape_error"]

E = TypeVar("E", bound=WeftError)


class AxisError(ShapeError, np.exceptions.AxisError):
    """An axis that the array does not have; also NumPy's error of that name."""

    def __str__(self) -> str:
        return WeftError.__str__(self)


class IntegerRangeError(WeftError, OverflowError):
    """A Python integer that the element type it meets cannot hold."""


class UnboundedIntegerError(WeftError, OverflowError):
    """A Python integer beyond 64 bits, which no traced number can hold."""


def problem(kind: type[E], what: str, *, expected: str | None = None,
            repair: str | None = None) -> E:
    """An error of this kind at the line of the user's code that is running."""
    return kind(what, expected=expected, repair=repair, origin=caller_origin())


def shape_error(what: str, expected: str | None = None, repair: str | None = None) -> ShapeError:
    """A `ShapeError` at the user's line."""
    return problem(ShapeError, what, expected=expected, repair=repair)


def dtype_error(what: str, expected: str | None = None, repair: str | None = None) -> DTypeError:
    """A `DTypeError` at the user's line."""
    return problem(DTypeError, what, expected=expected, repair=repair)


def close_names(name: str, names: Iterable[str]) -> str:
    """`` (close: a, b)`` with the names most like `name`, or nothing."""
    import difflib  # seldom needed

    near = difflib.get_close_matches(name, list(names), 3, 0.7)
    return f" (close to it: {', '.join(near)})" if near else ""
