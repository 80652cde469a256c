"""`dataclass`, with the methods made when the first object is.

The standard library's decorator writes the source of up to six methods and compiles it, at every
start of the process: half a millisecond for a class, and weft has about eighty, of which one call
needs half. This one does nothing until the first object is made, compiles `__init__` alone, and
shares the other methods between all classes. The fields are the standard library's own, so
`replace`, `fields` and `is_dataclass` work; to type checkers it is `dataclasses.dataclass`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from operator import attrgetter
from reprlib import recursive_repr
from threading import RLock
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dataclasses import dataclass
else:
    def dataclass(cls=None, /, *, frozen=False, eq=True):
        """A class of named fields, as `dataclasses.dataclass`; of its options those weft uses.

        >>> @dataclass(frozen=True)
        ... class Point:
        ...     "A point."
        ...     x: int
        ...     y: int = 0
        >>> Point(1), Point(1, 2) == Point(1, 2)
        (Point(x=1, y=0), True)
        """
        if cls is None:
            return lambda cls: _lazy(cls, frozen, eq)
        return _lazy(cls, frozen, eq)


__all__ = ["dataclass"]

_completing = RLock()   # a class completes its bases first, hence reentrant


def _lazy(cls: Any, frozen: bool, eq: bool) -> Any:
    """The class with stand-ins for `__init__` and for the table of fields."""
    def __init__(self: Any, /, *args: Any, **kwargs: Any) -> None:
        complete()
        cls.__init__(self, *args, **kwargs)

    def complete() -> None:
        with _completing:
            if vars(cls).get("__init__") is not __init__:
                return                  # another thread was faster
            fields = _fields(cls, frozen)
            made = _compiled(cls, fields)
            _add_methods(cls, fields, frozen, eq)
            cls.__init__ = made

    cls.__init__ = __init__
    cls.__dataclass_fields__ = _Fields(complete)
    return cls


class _Fields:
    """Stands where the table of fields will, until somebody asks for it."""

    def __init__(self, complete: Any) -> None:
        self._complete = complete

    def __get__(self, instance: object, owner: type) -> Any:
        self._complete()
        return owner.__dataclass_fields__  # type: ignore[attr-defined]


_FACTORY: Any = object()    # the default of a parameter whose field has a default factory
_Fieldset = Sequence["dataclasses.Field[Any]"]


def _fields(cls: Any, frozen: bool) -> _Fieldset:
    """The fields, found by the standard library, which also notes for subclasses made by its own
    decorator whether this class is frozen; of the methods it writes none that is kept."""
    mark = dataclasses.dataclass(init=False, repr=False, eq=False, frozen=frozen)
    return dataclasses.fields(mark(cls))


def _compiled(cls: Any, fields: _Fieldset) -> Callable[..., None]:
    """The method `__init__`. It fills the object's dictionary, so it need not ask `__setattr__`."""
    names: dict[str, Any] = {"FACTORY": _FACTORY}
    params, lines = ["self"], ["d = self.__dict__"]
    for f in fields:
        value = f.name
        if f.default_factory is not dataclasses.MISSING:
            names[f"make_{f.name}"] = f.default_factory
            params.append(f"{f.name}=FACTORY")
            value = f"make_{f.name}() if {f.name} is FACTORY else {f.name}"
        elif f.default is not dataclasses.MISSING:
            names[f"default_{f.name}"] = f.default
            params.append(f"{f.name}=default_{f.name}")
        else:
            params.append(f.name)
        lines.append(f"d[{f.name!r}] = {value}")
    if hasattr(cls, "__post_init__"):
        lines.append("self.__post_init__()")
    exec(f"def __init__({', '.join(params)}):\n " + "\n ".join(lines), names)
    made: Callable[..., None] = names["__init__"]
    made.__qualname__ = f"{cls.__qualname__}.__init__"
    return made


def _add_methods(cls: Any, fields: _Fieldset, frozen: bool, eq: bool) -> None:
    """The other methods, where the class does not define them itself."""
    shown = [f.name for f in fields if f.repr]
    parts = _parts([f.name for f in fields if f.compare])

    @recursive_repr("...")
    def __repr__(self: Any) -> str:
        inside = ", ".join([f"{name}={getattr(self, name)!r}" for name in shown])
        return f"{type(self).__qualname__}({inside})"

    def __eq__(self: Any, other: object) -> Any:
        return parts(self) == parts(other) if type(self) is type(other) else NotImplemented

    def __hash__(self: Any) -> int:
        return hash(parts(self))

    def __setattr__(self: Any, name: str, value: object) -> None:
        raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")

    def __delattr__(self: Any, name: str) -> None:
        raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r}")

    own = vars(cls)
    hashed = own.get("__hash__") is not None    # Python puts None there beside an own `__eq__`
    made: list[Any] = [__repr__] if "__repr__" not in own else []
    if eq and "__eq__" not in own:
        made.append(__eq__)
    if frozen:
        made += [__setattr__, __delattr__]
    for method in made:
        setattr(cls, method.__name__, method)
    if eq and not hashed:
        cls.__hash__ = __hash__ if frozen else None


def _parts(names: Sequence[str]) -> Callable[[Any], tuple[Any, ...]]:
    """A function from an object to the tuple of these attributes."""
    if len(names) > 1:
        return attrgetter(*names)
    if not names:
        return lambda self: ()
    name, = names
    return lambda self: (getattr(self, name),)
