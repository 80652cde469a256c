"""Errors that name the user's line, what was expected and how to repair it.

Every error weft raises on purpose is a `WeftError` and also the built-in exception that NumPy
would have raised, so `except ValueError` in existing code goes on working.
"""

from __future__ import annotations

import linecache
import os
import sys
from types import FrameType

import numpy as np

from weft.compiler.lazy_dataclass import dataclass

__all__ = [
    "DTypeError", "DataDependentError", "EscapedTracerError", "IndexOutOfBoundsError",
    "LinAlgError", "Origin", "ShapeError", "TextError", "TracerValueError", "UnsupportedError",
    "ValueRangeError", "VerifyError", "WeftError", "caller_origin", "failed_check",
]


@dataclass(frozen=True)
class Origin:
    """A line of the user's code: `file`, `line` (from 1) and the function it stands in."""

    file: str
    line: int
    function: str = ""

    def __str__(self) -> str:
        return f"{os.path.basename(self.file)}:{self.line}"

    def source(self) -> str:
        """The text of the line, or an empty string where it cannot be had."""
        return linecache.getline(self.file, self.line).strip()


class WeftError(Exception):
    """Base of all weft errors: what happened, where, what was expected, how to repair it.

    >>> print(WeftError("no axis 3", expected="an axis in [-2, 2)", repair="use axis=1"))
    no axis 3
      expected: an axis in [-2, 2)
      repair:   use axis=1
    """

    def __init__(self, what: str, *, expected: str | None = None, repair: str | None = None,
                 origin: Origin | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.expected = expected
        self.repair = repair
        self.origin = origin

    def __str__(self) -> str:
        lines = [self.what]
        if self.origin is not None:
            source = self.origin.source()
            lines.append(f"  at {self.origin}" + (f": {source}" if source else ""))
        if self.expected:
            lines.append(f"  expected: {self.expected}")
        if self.repair:
            lines.append(f"  repair:   {self.repair}")
        return "\n".join(lines)


class ShapeError(WeftError, ValueError):
    """Shapes, ranks, axes or sizes that do not fit."""


class DTypeError(WeftError, TypeError):
    """Element types that do not fit an operation."""


class UnsupportedError(WeftError, TypeError):
    """An object or function that weft cannot trace."""


class TracerValueError(WeftError, TypeError):
    """Code asked for the value of an array that is not known while tracing."""


class DataDependentError(WeftError, TypeError):
    """The shape of a result would depend on values, not only on shapes."""


class EscapedTracerError(WeftError, RuntimeError):
    """A tracer was used after the trace that made it had ended."""


class IndexOutOfBoundsError(WeftError, IndexError):
    """An index lies outside its axis."""


class ValueRangeError(WeftError, ValueError):
    """A value that an operation does not allow, found while running."""


class LinAlgError(WeftError, np.linalg.LinAlgError):
    """Matrices whose shape or values do not allow what is asked; NumPy's error of that name."""


def failed_check(kind: str, value: int, axis: int, size: int, origin: Origin | None) -> WeftError:
    """The error, in NumPy's words, for a value that failed a check of this kind (see `Check`).

    >>> failed_check("index", 7, 0, 3, None)
    IndexOutOfBoundsError('index 7 is out of bounds for axis 0 with size 3')
    """
    if kind == "exponent":
        return ValueRangeError("Integers to negative integer powers are not allowed.",
                               origin=origin)
    return IndexOutOfBoundsError(f"index {value} is out of bounds for axis {axis} with size {size}",
                                 origin=origin)


class TextError(WeftError, ValueError):
    """Graph text that cannot be read; the message shows the line and a caret."""


class VerifyError(WeftError, AssertionError):
    """A graph that breaks a rule of the IR, with the pass that broke it where one did."""


_HIDDEN = (os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep,
           os.path.dirname(os.path.abspath(np.__file__)) + os.sep)
_SHOWN = tuple(_HIDDEN[0] + folder + os.sep for folder in ("tests", "examples", "bench", "docs"))


def is_internal(file: str) -> bool:
    """Whether a source file belongs to weft or NumPy rather than to the user."""
    return file.startswith(_HIDDEN) and not file.startswith(_SHOWN)


_internal_cache: dict[str, bool] = {}


def caller_origin() -> Origin | None:
    """The innermost line on the stack that is neither weft's nor NumPy's."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        file = frame.f_code.co_filename
        hidden = _internal_cache.get(file)
        if hidden is None:
            hidden = _internal_cache[file] = is_internal(file)
        if not hidden:
            return Origin(file, frame.f_lineno, frame.f_code.co_name)
        frame = frame.f_back
    return None
