"""A transformed function: callable inside of traces and on arrays, and seen through by the rest."""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable, Hashable
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any

import numpy as np

from weft.compiler.errors import UnsupportedError, caller_origin
from weft.frontend.jit import BoundJit, Jit, jit
from weft.frontend.reading import transform_of
from weft.frontend.recording import active

__all__ = ["Transformed", "check_function", "transformed"]

Apply = Callable[..., Any]     # apply(fn, *args, **kwargs), within a trace


class Transformed:
    """What a transform makes of a function.

    Inside a trace, a call adds the nodes of the transformed function to it. Elsewhere, it is
    compiled for each signature and kept, as `weft.jit` does it.
    """

    __wrapped__: Callable[..., Any]

    def __init__(self, fn: Callable[..., Any], apply: Apply, title: str,
                 signature: inspect.Signature | None = None) -> None:
        functools.update_wrapper(self, fn)
        self.__name__ = getattr(fn, "__name__", type(fn).__name__)
        self.__qualname__ = getattr(fn, "__qualname__", self.__name__)
        self._apply = apply
        self._title = title
        self._jit: Jit | None = None
        self._shared: Callable[..., Any] | None = None      # what compiles calls on arrays instead
        if signature is not None:
            self.__signature__ = signature

    def rewrapped(self, inner: Callable[..., Any]) -> Transformed:
        """The same transform of a copy of the function inside."""
        fn = self.__wrapped__
        below = transform_of(fn)
        if below is not None:
            inner = below.rewrapped(inner)
        if isinstance(fn, MethodType):
            inner = MethodType(inner, fn.__self__)
        return Transformed(inner, self._apply, self._title, getattr(self, "__signature__", None))

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        if active() is not None:
            return self._apply(self.__wrapped__, *args, **kwargs)
        if self._shared is not None:
            return self._shared(*args, **kwargs)
        if self._jit is None:
            self._jit = jit(self)
        return self._jit(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        if name in ("trace", "lower", "compile", "history", "to"):
            if self._jit is None:
                self._jit = jit(self)
            return getattr(self._jit, name)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        return self if instance is None else MethodType(self, instance)

    def __repr__(self) -> str:
        return f"<weft.{self._title} of {self.__qualname__}>"


_KEPT = "__weft_transforms__"
_OF_BUILTINS: dict[Any, dict[Any, Transformed]] = {}


def transformed(fn: Callable[..., Any], title: str, options: Hashable, apply: Apply,
                signature: inspect.Signature | None = None) -> Transformed:
    """`Transformed`, the same object for the same function and options.

    So ``weft.grad(f)(x)`` in a loop compiles once. It is kept by the function itself, so that both
    go together; methods share what is compiled, which has `self` as an argument.
    """
    check_function(fn, title)
    if isinstance(fn, BoundJit):
        fn = MethodType(fn.__func__.__wrapped__, fn.__self__)
    if isinstance(fn, MethodType) and isinstance(fn.__func__, FunctionType):
        made = Transformed(fn, apply, title, signature)
        made._shared = MethodType(_of_method(fn.__func__, title, options, apply, signature),
                                  fn.__self__)
        return made
    kept = _kept(fn)
    key = title, options
    if key not in kept:
        kept[key] = Transformed(fn, apply, title, signature)
    return kept[key]


def _kept(fn: Callable[..., Any]) -> dict[Any, Transformed]:
    """The transforms of a function that were made before."""
    if isinstance(fn, np.ufunc | BuiltinFunctionType):      # live as long as the process
        return _OF_BUILTINS.setdefault(fn, {})
    held = getattr(fn, "__dict__", {}).get(_KEPT)
    if held is None or held[0] is not fn:       # decorators copy the attributes of what they wrap
        held = fn, {}
        with contextlib.suppress(AttributeError):
            setattr(fn, _KEPT, held)
    made: dict[Any, Transformed] = held[1]
    return made


def _of_method(plain: FunctionType, title: str, options: Hashable, apply: Apply,
               signature: inspect.Signature | None) -> Transformed:
    """The transform of any object's method, called with the object first."""
    def bound(fn: Callable[..., Any], self: Any, /, *args: Any, **kwargs: Any) -> Any:
        return apply(MethodType(fn, self), *args, **kwargs)

    if signature is not None:
        first = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
        signature = signature.replace(parameters=[first, *signature.parameters.values()])
    return transformed(plain, title, ("method", options), bound, signature)


def check_function(fn: Any, title: str) -> None:
    """Refuse what cannot be called."""
    if not callable(fn):
        raise UnsupportedError(f"weft.{title} got a {type(fn).__name__}", expected="a function",
                               repair=f"give the function itself: weft.{title}(f), then call that",
                               origin=caller_origin())
