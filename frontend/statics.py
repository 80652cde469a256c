"""Arguments that are not arrays or numbers: part of a compilation's signature, by value.

Strings, functions, enums and the like compare as they always do, except that ``1``, ``1.0`` and
``True`` are told apart. An object that compares by identity, such as the `self` of a method, is
known by identity; what its attributes hold is the business of `weft.frontend.watch`.
"""

from __future__ import annotations

from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np

__all__ = ["Same", "Static", "is_plain", "known_by_identity", "value_key"]

_PLAIN = (str, bytes, type(None), type, FunctionType, BuiltinFunctionType, ModuleType)


class Same:
    """Wraps an object so that only the very same one is equal."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Same) and self.value is other.value

    def __hash__(self) -> int:
        return id(self.value)


class Static:
    """A value held by a tree; two are equal where code cannot tell the values apart.

    >>> Static(1) == Static(1), Static(1) == Static(True), Static("a") == Static("a")
    (True, False, True)
    """

    __slots__ = ("_hash", "_key", "value")

    def __init__(self, value: Any) -> None:
        self.value = value
        self._key = value_key(value)
        self._hash = hash(self._key)

    @classmethod
    def of_object(cls, value: Any) -> Static:
        """The same for an object that is known to compare by identity, in less time."""
        made = object.__new__(cls)
        made.value, made._key, made._hash = value, Same(value), id(value)
        return made

    @property
    def by_identity(self) -> bool:
        """Whether only the very same object is equal."""
        return isinstance(self._key, Same)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Static) and self._key == other._key

    def __hash__(self) -> int:
        return self._hash

    def __repr__(self) -> str:
        named = isinstance(self.value, FunctionType | type)
        return self.value.__qualname__ if named else _short(repr(self.value))


def value_key(value: Any) -> Any:
    """A hashable key, equal for values that mean the same; `TypeError` for unhashable ones.

    >>> value_key((1, 0.0)) == value_key((True, -0.0)), value_key(2) == value_key(2)
    (False, True)
    """
    cls: Any = type(value)
    if isinstance(value, float | complex | np.generic):
        return cls, repr(value)      # tells -0.0 from 0.0, and takes NaN to equal itself
    if isinstance(value, tuple | frozenset):
        keys = map(value_key, value)
        return cls, frozenset(keys) if isinstance(value, frozenset) else tuple(keys)
    if isinstance(value, slice):
        return cls, value_key((value.start, value.stop, value.step))
    if isinstance(value, MethodType):
        return cls, value.__func__, value_key(value.__self__)
    hash(value)
    return Same(value) if known_by_identity(cls) else (cls, value)


def known_by_identity(cls: Any) -> bool:
    """Whether objects of a class compare by identity, and code may look into them."""
    return cls.__eq__ is object.__eq__ and not issubclass(cls, (*_PLAIN, MethodType))


def is_plain(value: Any) -> bool:
    """Whether the value is a name, a function, a class or a module: nothing to look into."""
    return isinstance(value, _PLAIN)


def _short(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."
