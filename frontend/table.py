"""What the tracer calls: NumPy functions, ufuncs and ndarray methods by their objects and names.

`FUNCTIONS` is the one table that `__array_function__`, the methods of tracers and `weft.numpy` all
read. The modules of `weft.frontend.numpy` fill it with the `implements` decorator.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

__all__ = ["FUNCTIONS", "HOOKS", "METHODS", "PROPERTIES", "UNSUPPORTED", "attribute", "implements",
           "method"]

F = TypeVar("F", bound=Callable[..., Any])

FUNCTIONS: dict[Any, Callable[..., Any]] = {}    # NumPy function -> what tracers do instead
METHODS: dict[str, Callable[..., Any]] = {}      # ndarray method -> the same, self first
PROPERTIES: dict[str, Callable[..., Any]] = {}   # computed ndarray attribute -> the same
UNSUPPORTED: dict[Any, tuple[str, str]] = {}     # NumPy function -> (why not, the repair)


class Hooks:
    """Entry points of the ufunc and indexing machinery, which stands above the tracer."""

    binary: Callable[[str, Any, Any], Any]
    unary: Callable[[str, Any], Any]
    inplace: Callable[[str, Any, Any], Any]
    ufunc: Callable[..., Any]
    getitem: Callable[[Any, Any], Any]
    holds_tracer: Callable[[Any], bool]
    sequence: Callable[[Any], Any]
    namespace: Callable[[], Any]


HOOKS = Hooks()


def implements(*functions: Any, methods: tuple[str, ...] = ()) -> Callable[[F], F]:
    """Register what the NumPy functions, and ndarray methods of these names, mean on tracers."""
    def decorate(fn: F) -> F:
        for function in functions:
            assert function not in FUNCTIONS, f"{function} is implemented twice"
            FUNCTIONS[function] = fn
        for name in methods:
            METHODS[name] = fn
        return fn
    return decorate


def method(*names: str) -> Callable[[F], F]:
    """Register methods of ndarray that are no NumPy functions, or differ from them."""
    return implements(methods=names)


def attribute(name: str) -> Callable[[F], F]:
    """Register a computed attribute of ndarray, such as `T`."""
    def decorate(fn: F) -> F:
        PROPERTIES[name] = fn
        return fn
    return decorate
