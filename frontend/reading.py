"""Which names a function's code uses, and those of the user's functions that it may call."""

from __future__ import annotations

import dis
import functools
import sys
from collections.abc import Iterable
from types import CodeType, FunctionType, ModuleType
from typing import Any

import numpy as np

from weft.compiler.errors import is_internal
from weft.compiler.lazy_dataclass import dataclass
from weft.frontend.places import (
    MISSING,
    Place,
    PlaceId,
    Scope,
    is_simple,
    place_id,
    reachable,
    read_place,
)
from weft.frontend.statics import is_plain

__all__ = ["Finder", "plain_function", "transform_of"]

_FUNCTIONS = 64   # functions followed
_CONTAINERS = (dict, list, tuple)
_MUTATORS = frozenset({
    "add", "append", "clear", "discard", "extend", "insert", "pop", "popitem", "remove", "reverse",
    "setdefault", "sort", "update"})


class Finder:
    """Walks the code of a function and of those it may call.

    `names` are those used, `written` attributes that are assigned, `roots` the places of variables
    by id, `titles` their names.
    """

    def __init__(self, fn: Any, statics: Iterable[Any]) -> None:
        self.names: set[str] = {"__call__"}
        self.roots: dict[PlaceId, Place] = {}
        self.titles: dict[PlaceId, str] = {}
        self.written: set[str] = set()
        self._functions: dict[int, FunctionType] = {}
        self._waiting = [fn, *getattr(fn, "_weft_bodies", ())]   # those of `weft.scan` and the like
        self._objects = list(statics)

    def run(self) -> None:
        """Go on until no more functions turn up."""
        known = -1
        while known != len(self._functions):
            known = len(self._functions)
            self._follow()
            for value in list(self._objects):
                self._find_methods(value)
                for _, item in reachable(value, Scope(frozenset(self.names))):
                    self._find_methods(item)

    def _follow(self) -> None:
        while self._waiting and len(self._functions) < _FUNCTIONS:
            function = plain_function(self._waiting.pop())
            if function is not None and id(function) not in self._functions:
                self._functions[id(function)] = function
                self._read(function)

    def _read(self, function: FunctionType) -> None:
        names = names_in(function.__code__)
        self.names |= names.used
        self.written |= names.written_attributes
        self._read_names(function.__globals__, set(names.used - names.written_variables))
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or ()):
            if name not in names.written_variables:
                place = cell, "cell_contents"
                self._variable(place, name, read_place(place))

    def _read_names(self, variables: dict[str, Any], names: set[str]) -> None:
        for name in sorted(names & variables.keys()):
            self._variable((variables, name), name, variables[name])

    def _variable(self, place: Place, name: str, value: Any) -> None:
        if isinstance(value, ModuleType):
            if _is_users(value):
                self._read_names(vars(value), self.names)
        elif value is MISSING or isinstance(value, str | bytes) or not (
                is_plain(value) or isinstance(value, np.ufunc) or hasattr(value, "__wrapped__")):
            self.roots[place_id(place)] = place
            self.titles[place_id(place)] = name
            self._objects.append(value)
        else:
            self._waiting.append(value)

    def _find_methods(self, value: Any) -> None:
        if is_simple(value) or isinstance(value, _CONTAINERS) or is_plain(value):
            return
        for base in type(value).__mro__[:-1]:
            for name in self.names & base.__dict__.keys():
                found = base.__dict__[name]
                self._waiting.append(getattr(found, "fget", None) or getattr(found, "func", found))


def plain_function(value: Any) -> FunctionType | None:
    """The user's function inside of methods, jitted functions and caches, if there is one."""
    value = getattr(value, "__func__", value)
    while not isinstance(value, FunctionType) and hasattr(value, "__wrapped__"):
        value = value.__wrapped__
    if isinstance(value, FunctionType) and not is_internal(value.__code__.co_filename):
        return value
    return None


def transform_of(value: Any) -> Any:
    """The outermost transform that is made of the user's function, jitted or not, if there is one.

    It can be made anew of another function, by its method `rewrapped`.
    """
    value = getattr(value, "__func__", value)
    while not isinstance(value, FunctionType) and hasattr(value, "__wrapped__"):
        if hasattr(type(value), "rewrapped"):
            return value
        value = value.__wrapped__
    return None


def _is_users(module: ModuleType) -> bool:
    file = getattr(module, "__file__", None) or ""
    packages = ("site-packages", "dist-packages")
    return bool(file) and not is_internal(file) and not any(p in file for p in packages) and (
        module.__name__.partition(".")[0] not in sys.stdlib_module_names)


@dataclass(frozen=True)
class Names:
    """The names in code: all of globals and attributes, and those that it assigns or appends to."""

    used: frozenset[str]
    written_variables: frozenset[str]
    written_attributes: frozenset[str]


@functools.lru_cache(maxsize=1024)
def names_in(code: CodeType) -> Names:
    """The names in a function's code and in the functions inside it."""
    variables: set[str] = set()
    attributes: set[str] = set()
    previous: dis.Instruction | None = None
    for instruction in dis.get_instructions(code):
        name, opname = str(instruction.argval), instruction.opname
        if opname in ("STORE_GLOBAL", "DELETE_GLOBAL") or (
                opname == "STORE_DEREF" and name in code.co_freevars):
            variables.add(name)
        elif opname in ("STORE_ATTR", "DELETE_ATTR"):
            attributes.add(name)
        elif opname in ("LOAD_METHOD", "LOAD_ATTR") and name in _MUTATORS and previous:
            (attributes if previous.opname == "LOAD_ATTR" else variables).add(str(previous.argval))
        previous = instruction
    inner = [names_in(c) for c in code.co_consts if isinstance(c, CodeType)]
    return Names(frozenset(code.co_names).union(*(n.used for n in inner)),
                 frozenset(variables).union(*(n.written_variables for n in inner)),
                 frozenset(attributes).union(*(n.written_attributes for n in inner)))
