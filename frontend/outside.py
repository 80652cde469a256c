"""While tracing, tracers stand where the function finds arrays outside its arguments.

A function that computes ``x @ (w * 2)`` with a global `w` must see new contents of `w` at every
call, so `w` has to be traced too. Nothing of the user's is touched for that: the function is run
as a copy whose globals, closed-over variables and objects hold tracers in place of the arrays.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from types import CellType, FunctionType, MethodType
from typing import Any

import numpy as np

from weft.compiler.types import TensorType, dtype_of
from weft.frontend.leaves import is_array
from weft.frontend.places import Place, place_name, read_place
from weft.frontend.pytree import flatten
from weft.frontend.reading import plain_function, transform_of
from weft.frontend.trace import ArgSpec
from weft.frontend.tracer import Tracer

__all__ = ["Outside", "has_tracer", "outside_arrays"]


def outside_arrays(found: Iterable[tuple[Place, Any]]) -> list[tuple[Place, ArgSpec]]:
    """Those of the values found that are arrays to be traced, as hidden arguments."""
    arrays: dict[tuple[int, Any], tuple[Place, ArgSpec]] = {}
    for place, value in found:
        if _is_traced(value) and _is_known(value.dtype):
            type = TensorType(tuple(value.shape), dtype_of(value.dtype))
            spec = ArgSpec("array", type, str(place[1]))
            arrays[id(place[0]), place[1]] = place, spec
    return list(arrays.values())


def _is_traced(value: Any) -> bool:
    if type(value) is np.ndarray:
        return value.flags.writeable
    return not isinstance(value, np.ndarray) and is_array(value)


def _is_known(dtype: np.dtype[Any]) -> bool:
    try:
        dtype_of(dtype)
    except TypeError:
        return False
    return True


class Outside:
    """Copies of functions and objects in which arrays at some places are replaced."""

    def __init__(self, places: Iterable[Place], tracers: Iterable[Tracer]) -> None:
        self._tracers = {(id(holder), key): t for (holder, key), t in zip(places, tracers)}
        self._holders = {holder for holder, _ in self._tracers}
        self._copies: dict[int, Any] = {}
        self._originals: dict[int, Any] = {}
        self._changed: list[tuple[Any, Any, dict[Any, Any]]] = []

    def function(self, fn: Any) -> Any:
        """A copy of the user's function, or what it was given if that is none."""
        several = getattr(fn, "_weft_with_bodies", None)
        if several is not None:
            return several([self.function(f) for f in fn._weft_bodies])
        plain = plain_function(fn)
        if plain is None:
            return fn
        if id(plain) not in self._copies:
            self._remember(plain, self._function(plain))
        copy: Any = self._copies[id(plain)]
        transform = transform_of(fn)
        if transform is not None:        # of the function, not the function itself
            copy = transform.rewrapped(copy)
        return MethodType(copy, fn.__self__) if hasattr(fn, "__func__") else copy

    def value(self, value: Any) -> Any:
        """The value with arrays below it replaced; itself where there are none."""
        if id(value) in self._copies:
            return self._copies[id(value)]
        if isinstance(value, FunctionType | MethodType) or hasattr(value, "__wrapped__"):
            return self.function(value)
        if not self._reaches(value, set()):
            return value
        if isinstance(value, tuple):     # it can hold no tracer of its own, only its items can
            items = [self._item(value, i, v) for i, v in enumerate(value)]
            made = tuple.__new__(type(value), items)
            self._remember(value, made)
            return made
        return self._container(value)

    def original(self, value: Any) -> Any:
        """What the value is a copy of, or itself."""
        return self._originals.get(id(value), value)

    def stored(self) -> Iterator[tuple[str, Any]]:
        """What the function has put into copies: (name, value) of all that differs."""
        for original, copy, before in self._changed:
            for key, value in _members(copy).items():
                if before.get(key, self) is not value:
                    yield place_name((original, key)), value

    def write_back(self) -> None:
        """Repeat on the originals what was stored in the copies."""
        for original, copy, before in self._changed:
            for key, value in _members(copy).items():
                if before.get(key, self) is value or isinstance(original, list):
                    continue
                if isinstance(original, dict):
                    original[key] = value
                else:
                    setattr(original, key, value)

    def _function(self, plain: FunctionType) -> FunctionType:
        # A new code object: the interpreter keeps what it knows of globals in the code itself.
        made = FunctionType(plain.__code__.replace(), _Globals(self, plain.__globals__),
                            plain.__name__, plain.__defaults__,
                            tuple(map(self._cell, plain.__closure__ or ())) or None)
        made.__kwdefaults__ = plain.__kwdefaults__
        made.__qualname__, made.__module__ = plain.__qualname__, plain.__module__
        made.__dict__.update({k: v for k, v in plain.__dict__.items() if k != "__wrapped__"})
        return made

    def _cell(self, cell: CellType) -> CellType:
        if id(cell) not in self._copies:
            copy = CellType()
            self._remember(cell, copy)   # first: functions may close over themselves
            value = read_place((cell, "cell_contents"), copy)
            if value is not copy:
                copy.cell_contents = self._item(cell, "cell_contents", value)
        made: CellType = self._copies[id(cell)]
        return made

    def _item(self, holder: Any, key: Any, value: Any) -> Any:
        tracer = self._tracers.get((id(holder), key))
        return self.value(value) if tracer is None else tracer

    def _container(self, value: Any) -> Any:
        copy = _empty_copy(value)
        if copy is None:
            return value
        self._remember(value, copy)
        members = {k: self._item(value, k, v) for k, v in _members(value).items()}
        if isinstance(copy, dict):
            copy.update(members)
        elif isinstance(copy, list):
            copy.extend(members.values())
        else:
            for name, item in members.items():
                object.__setattr__(copy, name, item)
        self._changed.append((value, copy, members))
        return copy

    def _reaches(self, value: Any, seen: set[int]) -> bool:
        """Whether some holder of a replaced array lies at or below the value."""
        if id(value) in self._holders:
            return True
        if id(value) in seen or not _may_hold(value):
            return False
        seen.add(id(value))
        return any(self._reaches(item, seen) for item in _members(value).values())

    def _remember(self, original: Any, copy: Any) -> None:
        self._copies[id(original)] = copy
        self._originals[id(copy)] = original     # keeps it alive, too, while its id is a key

    def variable(self, variables: Mapping[str, Any], name: str) -> Any:
        """A global variable, replaced where it must be."""
        return self._item(variables, name, variables[name])


class _Globals(dict[str, Any]):
    """Globals of a copied function: looks each name up in the original ones, replacing values."""

    def __init__(self, outside: Outside, original: dict[str, Any]) -> None:
        super().__init__()
        if "__builtins__" in original:
            self["__builtins__"] = original["__builtins__"]
        self._outside = outside
        self._original = original
        outside._changed.append((original, self, dict(self)))

    def __missing__(self, name: str) -> Any:
        return self._outside.variable(self._original, name)


def has_tracer(value: Any) -> bool:
    """Whether a tracer stands in the value or in containers below it."""
    return any(type(leaf) is Tracer for leaf in flatten(value)[0])


def _may_hold(value: Any) -> bool:
    return isinstance(value, dict | list | tuple) or (
        type(value).__module__ != "builtins" and not is_array(value)
        and not isinstance(value, type | np.generic | Tracer))


def _members(value: Any) -> dict[Any, Any]:
    if isinstance(value, dict):
        return dict(value)
    if isinstance(value, list | tuple):
        return dict(enumerate(value))
    members = dict(getattr(value, "__dict__", {}))
    for cls in type(value).__mro__:
        slots = cls.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if not name.startswith("__") and hasattr(value, name):
                members[name] = getattr(value, name)
    return members


def _empty_copy(value: Any) -> Any:
    """A new object of the same class without its contents, or None if that cannot be made."""
    try:
        if isinstance(value, dict | list):
            made = value.copy()          # keeps a defaultdict's factory
            made.clear()
            return made
        return object.__new__(type(value))
    except TypeError:
        return None
