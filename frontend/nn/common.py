"""What the functions of `weft.nn` share: how they are called, and arguments in their forms."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from weft.compiler.errors import ShapeError
from weft.compiler.types import DTYPES
from weft.frontend.numpy.common import as_array, axes_of, build, lift, of_kind, static
from weft.frontend.problems import problem
from weft.frontend.recording import active
from weft.frontend.tracer import Tracer

__all__ = ["Array", "applied", "constant", "floating", "function", "reduced", "rounded",
           "several", "size_of"]

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


def rounded(fn: F) -> F:
    """A `function` that computes with 16-bit floats as float32 and rounds its result once.

    (NumPy has no weak promotion for bfloat16: with a Python number it becomes float32.)
    """
    @functools.wraps(fn)
    def call(*args: Any, **kwargs: Any) -> Any:
        small: list[Any] = []
        wide: list[Any] = []

        def widened(x: Any) -> Any:
            if not isinstance(x, np.ndarray | np.generic):
                return x
            t = lift(x)
            if not t.element.is_inexact:
                return t
            (small if t.element.itemsize == 2 else wide).append(t.element)
            return of_kind(t, build().convert(t.node, DTYPES["f32"])) \
                if t.element.itemsize == 2 else t
        out = fn(*map(widened, args), **{k: widened(v) for k, v in kwargs.items()})
        if not small or wide:
            return out
        t = lift(out)
        return of_kind(t, build().convert(t.node, small[0]))
    return function(call)  # type: ignore[return-value]


def several(value: Any, n: int, what: str) -> tuple[int, ...]:
    """A number for each of n axes: one for all of them, or as many as there are."""
    if isinstance(value, (tuple, list)):
        if len(value) != n:
            raise problem(ShapeError, f"{what} got {len(value)} numbers for {n} axes",
                          expected=f"one number, or {n}")
        return tuple(static(v, what) for v in value)
    return (static(value, what),) * n


def floating(x: Array) -> Tracer:
    """The array as a traced one of real or complex numbers: integers become float64."""
    t = lift(x)
    if t.weak:
        t = as_array(t.node)
    if t.element.is_inexact:
        return t
    return of_kind(t, build().convert(t.node, DTYPES["f64"]))


def applied(op: str, x: Array) -> Tracer:
    """A unary op of the compiler's, of an array of real numbers."""
    t = floating(x)
    return of_kind(t, build().add(op, t.node))


def constant(x: Array) -> Any:
    """The value, which derivatives take to be constant."""
    t = lift(x)
    return of_kind(t, build().add("stop_gradient", t.node))


def size_of(x: Array, axis: Any) -> Any:
    """How many elements there are along some axes; None for all."""
    t = lift(x)
    count: Any = 1
    for a in axes_of(axis, len(t.node.shape)):
        count = count * t.shape[a]
    return count


def reduced(values: Any, reduction: str, what: str) -> Any:
    """Losses averaged, added up, or left as they are."""
    if reduction == "mean":
        return values.mean()
    if reduction == "sum":
        return values.sum()
    if reduction != "none":
        raise problem(ShapeError, f"{what} got reduction={reduction!r}",
                      expected='"mean", "sum" or "none"')
    return values
