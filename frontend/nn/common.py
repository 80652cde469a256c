"""What the functions of `weft.nn` share: how they are called, and arguments in their forms."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from typing import Any, TypeVar

from weft.compiler.errors import ShapeError
from weft.frontend.numpy.common import static
from weft.frontend.problems import problem
from weft.frontend.recording import active

__all__ = ["Array", "function", "several"]

Array = Any      # an array, or what NumPy takes as one
F = TypeVar("F", bound=Callable[..., Any])


def function(fn: F) -> F:
    """A function of `weft.nn`: part of the trace that runs, compiled for itself outside of one."""
    compiled: Any = None

    @functools.wraps(fn)
    def call(*args: Any, **kwargs: Any) -> Any:
        nonlocal compiled
        trace = active()
        if trace is not None:
            return trace.run(fn, args, kwargs)
        if compiled is None:      # (the compiler is imported by what is called outside of a trace)
            compiled = importlib.import_module("weft.frontend.jit").jit(fn)
        return compiled(*args, **kwargs)
    return call  # type: ignore[return-value]


def several(value: Any, n: int, what: str) -> tuple[int, ...]:
    """A number for each of n axes: one for all of them, or as many as there are."""
    if isinstance(value, (tuple, list)):
        if len(value) != n:
            raise problem(ShapeError, f"{what} got {len(value)} numbers for {n} axes",
                          expected=f"one number, or {n}")
        return tuple(static(v, what) for v in value)
    return (static(value, what),) * n
