"""What makes a function on traced values one that can be called anywhere."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from weft.frontend.jit import Jit, jit
from weft.frontend.random.reuse import checking, consume_value
from weft.frontend.recording import active

__all__ = ["sampler"]

F = TypeVar("F", bound=Callable[..., Any])


def sampler(*static: str, name: str = "", consumes: bool = True) -> Callable[[F], F]:
    """Decorates a function of a key, written on traced values; `static` names arguments that are
    no arrays; `name` is the function's for the user, if that is another.

    Inside a compiled function, a call adds its nodes. Elsewhere it is compiled for each signature
    and kept, as `weft.jit` does it.
    """
    def decorate(fn: F) -> F:
        signature = inspect.signature(fn)
        made: list[Jit] = []

        def compiled() -> Jit:
            if not made:
                made.append(jit(_entry(fn), static_argnames=static))
            return made[0]

        @functools.wraps(fn)
        def call(*args: Any, **kwargs: Any) -> Any:
            trace = active()
            if trace is not None:
                return trace.run(fn, args, kwargs)
            bound = signature.bind(*args, **kwargs)
            bound.apply_defaults()
            for key in static:
                bound.arguments[key] = _hashable(bound.arguments[key])
            if checking() and consumes:
                consume_value(args[0] if args else bound.arguments["key"], name or fn.__name__)
            return compiled()(*bound.args)
        return call  # type: ignore[return-value]
    return decorate


def _entry(fn: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(fn)
    def entry(*args: Any) -> Any:
        trace = active()
        assert trace is not None, "only compiled"
        return trace.run(fn, args, {})
    return entry


def _hashable(value: Any) -> Any:
    """A shape given as a list or an array, as one that compares."""
    if type(value) in (list, np.ndarray):
        return tuple(value)
    return value
