"""What a function reads beside its arguments: globals, closed-over variables, attributes.

NumPy code sees a new value of these at the next call, so compiled code has to as well. The names
that the function and the user's functions called by it use are looked up: numbers and strings
found become part of the signature, and so do the types of arrays, whose contents are read anew at
each call. Functions and classes are taken to stay what they are.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Hashable, Iterable, Iterator
from types import CodeType, FunctionType, ModuleType
from typing import Any, TypeAlias

import numpy as np

from weft.compiler.errors import is_internal
from weft.frontend.statics import Same, is_plain

__all__ = ["Place", "Watch", "read_place"]

Place: TypeAlias = tuple[Any, Any]    # what holds a value, and its key there

_FUNCTIONS = 64   # functions followed
_DEPTH = 6        # attributes of attributes are watched this far down
_ITEMS = 512      # values watched: a container with more is taken to be data, not parameters
_MISSING = object()
_NUMBERS = (float, complex, np.generic)
_IMMUTABLE = (*_NUMBERS, int, str, bytes, type(None))
_CONTAINERS = (dict, list, tuple)


class Watch:
    """The outside values that one function depends on."""

    def __init__(self, fn: Callable[..., Any]) -> None:
        self._fn = fn
        self._names: tuple[str, ...] = ()
        self._roots: tuple[tuple[Place, Any], ...] = ()   # variables, and what they held last
        self._deep = True               # whether identity of the roots' values does not tell all
        self._state: Hashable = ()

    @property
    def is_empty(self) -> bool:
        """Whether nothing was found that may change."""
        return not self._roots

    def look(self, statics: Iterable[Any] = ()) -> None:
        """Find the variables again; to be done before something is traced.

        `statics` are the call's arguments that are known by identity.
        """
        finder = _Finder(self._fn, statics)
        finder.run()
        self._names = tuple(sorted(finder.names))
        self._roots = tuple(finder.roots.values())
        self._remember()

    def state(self, statics: Iterable[Any] = ()) -> Hashable:
        """A value that differs from an earlier one when what was traced may no longer fit."""
        if self._deep or self._changed():
            self._roots = tuple((place, read_place(place)) for place, _ in self._roots)
            self._remember()
        states = [_deep_state(value, self._names) for value in statics]
        return (self._state, *states) if states else self._state

    def places(self, statics: Iterable[Any] = ()) -> dict[int, Place]:
        """Where each array that can be reached is held, by the array's id."""
        found = {id(value): place for place, value in self._roots}
        for value in (*(value for _, value in self._roots), *statics):
            for place, item in _reachable(value, self._names):
                found[id(item)] = place
        return found

    def find(self, cls: type, statics: Iterable[Any] = ()) -> str | None:
        """The name under which something of this class can be reached, if anything is."""
        for place, _ in self._roots:
            if type(read_place(place)) is cls:
                return str(place[1])
        for value in (*(value for _, value in self._roots), *statics):
            for place, item in _reachable(value, self._names):
                if type(item) is cls:
                    return f"{type(place[0]).__name__}.{place[1]}"
        return None

    def describe(self, statics: Iterable[Any] = ()) -> dict[str, str]:
        """Each watched value by name, as short text."""
        found: dict[str, str] = {}
        for (holder, key), value in self._roots:
            name = f"global {key}" if isinstance(holder, dict) else "closed-over variable"
            found[name] = _text(value)
            found |= self._describe_below(f"{key} of" if isinstance(holder, dict) else "", value)
        for value in statics:
            found |= self._describe_below(type(value).__name__, value)
        return found

    def _describe_below(self, name: str, value: Any) -> dict[str, str]:
        return {f"{name}.{place[1]}": _text(item) for place, item in _reachable(value, self._names)}

    def _changed(self) -> bool:
        return any(read_place(place) is not value for place, value in self._roots)

    def _remember(self) -> None:
        self._deep = any(not _is_simple(value) for _, value in self._roots)
        self._state = tuple([_deep_state(value, self._names) for _, value in self._roots])


def read_place(place: Place) -> Any:
    """What stands there now, or an object of its own kind where nothing does any more."""
    holder, key = place
    try:
        return holder[key] if isinstance(holder, _CONTAINERS) else getattr(holder, key)
    except (LookupError, AttributeError, ValueError):
        return _MISSING


class _Finder:
    """Walks the code of a function and of those it may call."""

    def __init__(self, fn: Any, statics: Iterable[Any]) -> None:
        self.names: set[str] = {"__call__"}
        self.roots: dict[tuple[int, str], tuple[Place, Any]] = {}
        self._functions: dict[int, FunctionType] = {}
        self._waiting = [fn]
        self._objects = list(statics)

    def run(self) -> None:
        """Go on until no more functions turn up."""
        known = -1
        while known != len(self._functions):
            known = len(self._functions)
            self._follow()
            for value in list(self._objects):
                self._find_methods(value)
                for _, item in _reachable(value, self.names):
                    self._find_methods(item)

    def _follow(self) -> None:
        while self._waiting and len(self._functions) < _FUNCTIONS:
            function = _plain_function(self._waiting.pop())
            if function is not None and id(function) not in self._functions:
                self._functions[id(function)] = function
                self._read(function)

    def _read(self, function: FunctionType) -> None:
        names = set(_names_in(function.__code__))
        self.names |= names
        self._read_names(function.__globals__, names)
        for cell in function.__closure__ or ():
            place = cell, "cell_contents"
            self._variable(place, read_place(place))

    def _read_names(self, variables: dict[str, Any], names: set[str]) -> None:
        for name in sorted(names & variables.keys()):
            self._variable((variables, name), variables[name])

    def _variable(self, place: Place, value: Any) -> None:
        if isinstance(value, ModuleType):
            if _is_users(value):
                self._read_names(vars(value), self.names)
        elif isinstance(value, str | bytes) or not (is_plain(value) or _is_function(value)):
            self.roots[id(place[0]), place[1]] = place, value
            self._objects.append(value)
        else:
            self._waiting.append(value)

    def _find_methods(self, value: Any) -> None:
        if _is_simple(value) or isinstance(value, _CONTAINERS) or is_plain(value):
            return
        for base in type(value).__mro__[:-1]:
            for name in self.names & base.__dict__.keys():
                found = base.__dict__[name]
                self._waiting.append(getattr(found, "fget", None) or getattr(found, "func", found))


def _plain_function(value: Any) -> FunctionType | None:
    """The user's function inside of wrappers, if it is one."""
    while hasattr(value, "__wrapped__"):
        value = value.__wrapped__
    value = getattr(value, "__func__", value)
    if isinstance(value, FunctionType) and not is_internal(value.__code__.co_filename):
        return value
    return None


def _is_function(value: Any) -> bool:
    return isinstance(value, np.ufunc) or hasattr(value, "__wrapped__")


def _is_users(module: ModuleType) -> bool:
    file = getattr(module, "__file__", None) or ""
    packages = ("site-packages", "dist-packages")
    return bool(file) and not is_internal(file) and not any(p in file for p in packages) and (
        module.__name__.partition(".")[0] not in sys.stdlib_module_names)


def _names_in(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names_in(constant)


# ---- what is held below a value


def _reachable(value: Any, names: Iterable[str], depth: int = 0,
               seen: set[int] | None = None) -> Iterator[tuple[Place, Any]]:
    """Every item below `value`, with its place: attributes of these names, items of containers."""
    seen = {id(value)} if seen is None else seen
    for key, item in _members(value, names):
        if len(seen) > _ITEMS:
            return
        yield (value, key), item
        if depth < _DEPTH and not _is_simple(item) and id(item) not in seen:
            seen.add(id(item))
            yield from _reachable(item, names, depth + 1, seen)


def _members(value: Any, names: Iterable[str]) -> Iterable[tuple[Any, Any]]:
    if isinstance(value, dict):
        return list(value.items())
    if isinstance(value, list | tuple):
        return enumerate(value)
    if _is_simple(value) or is_plain(value):
        return ()
    return _attributes(value, names)


def _attributes(value: Any, names: Iterable[str]) -> Iterator[tuple[str, Any]]:
    held = getattr(value, "__dict__", {})
    slots = _slots(type(value))
    for name in names:
        if name in held:
            yield name, held[name]
        elif name in slots:
            yield name, getattr(value, name, _MISSING)


def _slots(cls: type) -> frozenset[str]:
    found: set[str] = set()
    for base in cls.__mro__:
        slots = base.__dict__.get("__slots__", ())
        found.update((slots,) if isinstance(slots, str) else slots)
    return frozenset(found)


def _is_simple(value: Any) -> bool:
    """Whether identity tells all: a value that is immutable, or an array (read at every call)."""
    return isinstance(value, (*_IMMUTABLE, np.ndarray)) or value is _MISSING


def _deep_state(value: Any, names: Iterable[str]) -> Hashable:
    if _is_simple(value):
        return _state(value)
    return (_state(value), *[(_hashable(place[1]), _state(item))
                             for place, item in _reachable(value, names)])


def _state(item: Any) -> Hashable:
    if isinstance(item, np.ndarray):            # a read-only one may have become a constant
        return (item.dtype, item.shape) if item.flags.writeable else Same(item)
    if isinstance(item, _NUMBERS):
        return type(item), repr(item)
    if isinstance(item, _IMMUTABLE):
        return type(item), item
    if isinstance(item, _CONTAINERS):
        return type(item), len(item)
    return Same(item)


def _text(item: Any) -> str:
    if isinstance(item, np.ndarray):
        return f"{item.dtype}{list(item.shape)}"
    if isinstance(item, _IMMUTABLE):
        return repr(item)[:40]
    return f"{type(item).__name__} of {len(item)}" if isinstance(item, _CONTAINERS) else (
        f"{type(item).__name__} object")


def _hashable(key: Any) -> Hashable:
    return key if isinstance(key, str | int) else Same(key)
