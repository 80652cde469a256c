"""`dataclass`, with the methods made when the first object is.

The standard library's decorator writes the source of up to six methods and compiles it, at every
start of the process: half a millisecond for a class, and weft has about eighty, of which one call
needs half. This one does nothing until the first object is made; all classes share the code of
their methods. The table of fields is made by the standard library when it is asked for, so
`fields` and `is_dataclass` work (its `replace` too; the one here does without that table). To type
checkers both are those of `dataclasses`.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Sequence
from operator import attrgetter
from reprlib import recursive_repr
from threading import RLock
from types import CodeType, FunctionType
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

if TYPE_CHECKING:
    from dataclasses import dataclass, replace
else:
    def replace(obj, /, **changes):
        """The object with some fields changed, as `dataclasses.replace`, for these classes."""
        cls = type(obj)
        return cls(**{name: getattr(obj, name) for name in cls.__match_args__} | changes)

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


__all__ = ["dataclass", "replace"]

_completing = RLock()       # a class completes its bases first, hence reentrant
_FACTORY: Any = object()    # the default of a parameter whose field has a default factory
_Field: TypeAlias = "dataclasses.Field[Any]"


def _lazy(cls: Any, frozen: bool, eq: bool) -> Any:
    """The class with stand-ins for `__init__` and for the table of fields."""
    def __init__(self: Any, /, *args: Any, **kwargs: Any) -> None:
        table.complete()
        cls.__init__(self, *args, **kwargs)

    table = _Table(cls, frozen, eq, __init__)
    cls.__init__ = __init__
    cls.__dataclass_fields__ = table
    return cls


class _Table:
    """Stands where the table of fields will, until somebody asks for it: `replace`, say."""

    def __init__(self, cls: Any, frozen: bool, eq: bool, init: Callable[..., None]) -> None:
        self._cls = cls
        self._frozen = frozen
        self._eq = eq
        self._init = init
        self._fields: dict[str, _Field] = {}
        self._own: dict[str, _Field] = {}       # attributes of the class that say `field(...)`

    def complete(self) -> dict[str, _Field]:
        """Give the class its methods, unless it has them; its fields by name."""
        with _completing:
            if vars(self._cls).get("__init__") is self._init:
                self._find()
                _add_methods(self._cls, list(self._fields.values()), self._frozen, self._eq)
                self._cls.__match_args__ = tuple(self._fields)  # type: ignore[misc]
                self._cls.__init__ = _init_method(self._cls, list(self._fields.values()))
        return self._fields

    def _find(self) -> None:
        cls = self._cls
        for base in reversed(cls.__mro__[1:]):
            table = vars(base).get("__dataclass_fields__")
            if isinstance(table, _Table):
                self._fields |= table.complete()
            elif table is not None:
                self._fields |= {f.name: f for f in dataclasses.fields(base)}
        for name, annotation in inspect.get_annotations(cls).items():
            if _is_class_variable(annotation):
                continue
            value = vars(cls).get(name, dataclasses.MISSING)
            if isinstance(value, dataclasses.Field):
                self._own[name] = value
                if value.default is dataclasses.MISSING:
                    delattr(cls, name)
                else:
                    setattr(cls, name, value.default)
            else:
                value = dataclasses.field(default=value)
            value.name = name
            self._fields[name] = value

    def __get__(self, instance: object, owner: type) -> Any:
        """The table that the standard library makes."""
        with _completing:
            self.complete()
            cls = self._cls
            if vars(cls)["__dataclass_fields__"] is self:
                for name, field in self._own.items():
                    setattr(cls, name, field)
                # It looks for the meaning of a text in the class's module, which may not have it.
                cls.__annotations__ = {
                    name: ClassVar if _is_class_variable(annotation) else annotation
                    for name, annotation in inspect.get_annotations(cls).items()}
                # It writes these two for a frozen class, and does not replace any.
                guards = {n: vars(cls)[n] for n in ("__setattr__", "__delattr__") if self._frozen}
                for name in guards:
                    delattr(cls, name)
                dataclasses.dataclass(init=False, repr=False, eq=False, frozen=self._frozen)(cls)
                for name, method in guards.items():
                    setattr(cls, name, method)
            return owner.__dataclass_fields__  # type: ignore[attr-defined]


def _is_class_variable(annotation: object) -> bool:
    return str(annotation).startswith(("ClassVar", "typing.ClassVar"))


def _init_method(cls: Any, fields: Sequence[_Field]) -> Callable[..., None]:
    """The method `__init__`."""
    kinds = "".join("f" if f.default_factory is not dataclasses.MISSING else "p" for f in fields)
    names = {f"p{i}": f.name for i, f in enumerate(fields)}
    template = _template(kinds, hasattr(cls, "__post_init__"))
    code = template.replace(
        co_varnames=tuple(names.get(n, n) for n in template.co_varnames),
        co_consts=tuple(names.get(c, c) if isinstance(c, str) else c for c in template.co_consts))
    makers = {f"make{i}": f.default_factory for i, f in enumerate(fields)}
    optional = [k == "f" or f.default is not dataclasses.MISSING for k, f in zip(kinds, fields)]
    if sorted(optional) != optional:
        raise TypeError(f"{cls.__qualname__}: a field without a default follows one with a default")
    defaults = tuple(_FACTORY if k == "f" else f.default
                     for k, f, has in zip(kinds, fields, optional) if has)
    made = FunctionType(code, {"FACTORY": _FACTORY, **makers}, "__init__", defaults)
    made.__qualname__ = f"{cls.__qualname__}.__init__"
    return made


@functools.cache
def _template(kinds: str, post_init: bool) -> CodeType:
    """The code of an `__init__` for parameters p0, p1, … that are plain (p) or have a factory (f).

    Compiling takes as long as all the rest, and classes with as many fields differ only in names.
    It fills the object's dictionary, and so need not ask `__setattr__`.
    """
    lines = ["d = self.__dict__"]
    for i, kind in enumerate(kinds):
        value = f"make{i}() if p{i} is FACTORY else p{i}" if kind == "f" else f"p{i}"
        lines.append(f"d['p{i}'] = {value}")
    if post_init:
        lines.append("self.__post_init__()")
    space: dict[str, Any] = {}
    params = ", ".join(["self", *(f"p{i}" for i in range(len(kinds)))])
    exec(f"def __init__({params}):\n " + "\n ".join(lines), space)
    code: CodeType = space["__init__"].__code__
    return code


def _add_methods(cls: Any, fields: Sequence[_Field], frozen: bool, eq: bool) -> None:
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
