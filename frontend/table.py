"""What the tracer calls: NumPy functions, ufuncs and ndarray methods by their objects and names.

`FUNCTIONS` is the one table that `__array_function__`, the methods of tracers and `weft.numpy` all
read. The modules of `weft.frontend.numpy` fill it with the `implements` decorator.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from weft.frontend.families import FAMILIES

__all__ = ["FUNCTIONS", "HOOKS", "METHODS", "PROPERTIES", "UNSUPPORTED", "Table", "attribute",
           "complete", "implements", "load_family", "method"]

F = TypeVar("F", bound=Callable[..., Any])
K = TypeVar("K")
V = TypeVar("V")

_PACKAGE = "weft.frontend.numpy"
_REST = f"{_PACKAGE}.rest"
_HOMES = {name: f"{_PACKAGE}.{module}" for module, names in FAMILIES.items()
          for name in names.split()}


class Table(dict[K, V]):
    """A table that completes itself: a look for what is not there loads the family that has it,
    else all of them; so does a look at all of it. (`in` sees what has been loaded.)"""

    def __missing__(self, key: K) -> V:
        load_family(key)
        if key not in self:
            complete()
        return self.copy()[key]

    def get(self, key: Any, default: Any = None) -> Any:
        """The entry, or the default."""
        if key not in self:
            load_family(key)
        if key not in self:
            complete()
        return dict.get(self, key, default)

    def __iter__(self) -> Iterator[K]:
        complete()
        return dict.__iter__(self)


_is_complete = False


def load_family(key: Any) -> None:
    """Load the module that implements a function, or a method or attribute of this name, if the
    table of families has it."""
    if isinstance(key, str):
        name = f".{key}"
    else:
        where = getattr(key, "__module__", "") or ""
        name = f"{where}.{getattr(key, '__name__', '')}".removeprefix("numpy.")
    if name in _HOMES:
        importlib.import_module(_HOMES[name])


def complete() -> None:
    """Load what is missing from the tables."""
    global _is_complete
    if not _is_complete:        # set at the end: other threads wait for the import meanwhile
        importlib.import_module(_REST)
        _is_complete = True


FUNCTIONS: Table[Any, Callable[..., Any]] = Table()     # NumPy function -> what tracers do instead
METHODS: Table[str, Callable[..., Any]] = Table()       # ndarray method -> the same, self first
PROPERTIES: dict[str, Callable[..., Any]] = {}          # computed ndarray attribute -> the same
UNSUPPORTED: Table[Any, tuple[str, str]] = Table()      # NumPy function -> (why not, the repair)


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

    def __getattr__(self, name: str) -> Any:
        complete()
        if name not in self.__dict__:           # what tools ask of any object
            raise AttributeError(name)
        return self.__dict__[name]


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
