"""Places where values are held, and what can be reached from a value."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator
from typing import Any, TypeAlias

import numpy as np

from weft.compiler.digest import blake2b
from weft.compiler.lazy_dataclass import dataclass
from weft.devices.registry import device_id
from weft.frontend.leaves import array_device, is_array
from weft.frontend.statics import Same, is_plain

__all__ = ["CONTAINERS", "MISSING", "Place", "PlaceId", "Scope", "hashable", "is_simple",
           "item_state", "item_text", "place_id", "place_name", "reachable", "read_place"]

Place: TypeAlias = tuple[Any, Any]      # what holds a value, and its key there
PlaceId: TypeAlias = tuple[int, Any]

_DEPTH = 6        # attributes of attributes are watched this far down
_ITEMS = 512      # values watched below one; a longer container is taken to be data
MISSING = object()
_NUMBERS = (float, complex, np.generic)
_IMMUTABLE = (*_NUMBERS, int, str, bytes, type(None))
CONTAINERS = (dict, list, tuple)


@dataclass(frozen=True)
class Scope:
    """Where to look: the attributes' names, and the places that are not watched."""

    names: frozenset[str] = frozenset()
    ignored: frozenset[PlaceId] = frozenset()


def place_id(place: Place) -> PlaceId:
    """A key for the place, as long as its holder lives."""
    return id(place[0]), hashable(place[1])


def place_name(place: Place) -> str:
    """The place as text: ``Model.w``, or the name of a variable."""
    holder, key = place
    is_object = hasattr(holder, "__dict__") or hasattr(type(holder), "__slots__")
    return f"{type(holder).__name__}.{key}" if is_object else str(key)


def read_place(place: Place, default: Any = MISSING) -> Any:
    """What stands there now, or `default` where nothing does any more."""
    holder, key = place
    try:
        return holder[key] if isinstance(holder, CONTAINERS) else getattr(holder, key)
    except (LookupError, AttributeError, ValueError):
        return default


def is_simple(value: Any) -> bool:
    """Whether identity tells all: a value that is immutable, or an array (read at every call)."""
    return isinstance(value, _IMMUTABLE) or value is MISSING or is_array(value)


def reachable(value: Any, scope: Scope) -> Iterator[tuple[Place, Any]]:
    """Every item below the value, with its place: attributes by name, items of containers.

    A container with many items is data rather than parameters, and is not looked into.
    """
    return _below(value, scope, _DEPTH, {id(value)}, [_ITEMS])


def _below(value: Any, scope: Scope, depth: int, seen: set[int],
           budget: list[int]) -> Iterator[tuple[Place, Any]]:
    for key, item in _members(value, scope.names):
        if scope.ignored and (id(value), hashable(key)) in scope.ignored:
            continue
        budget[0] -= 1
        if budget[0] < 0:
            return
        yield (value, key), item
        if depth and not is_simple(item) and id(item) not in seen:
            seen.add(id(item))
            yield from _below(item, scope, depth - 1, seen, budget)


def _members(value: Any, names: frozenset[str]) -> Iterable[tuple[Any, Any]]:
    if isinstance(value, CONTAINERS):
        if len(value) > _ITEMS:
            return ()
        return list(value.items()) if isinstance(value, dict) else enumerate(value)
    if is_simple(value) or is_plain(value):
        return ()
    return _attributes(value, names)


def _attributes(value: Any, names: frozenset[str]) -> list[tuple[str, Any]]:
    held = getattr(value, "__dict__", {})
    found = [(name, item) for name, item in list(held.items()) if name in names]
    for name in _slots(type(value)):
        if name in names and hasattr(value, name):
            found.append((name, getattr(value, name)))
    return found


def _slots(cls: type) -> list[str]:
    found: list[str] = []
    for base in cls.__mro__:
        slots = base.__dict__.get("__slots__", ())
        found += (slots,) if isinstance(slots, str) else slots
    return found


def item_state(item: Any, contents: bool) -> Hashable:
    """What tracing may have read of the value itself; of an array, its `contents` on request."""
    if isinstance(item, np.ndarray):
        if contents:
            return item.dtype, item.shape, blake2b(item.tobytes()).digest()
        # A read-only array may have become a constant.
        return (item.dtype, item.shape) if item.flags.writeable else Same(item)
    device = array_device(item)
    if device is not None:
        seen = device.memory.get(item).tobytes() if contents else b""
        return device_id(device), item.dtype, tuple(item.shape), seen
    if isinstance(item, _NUMBERS):
        return type(item), repr(item)
    if isinstance(item, _IMMUTABLE):
        return type(item), item
    if isinstance(item, CONTAINERS):
        return type(item), len(item)
    return Same(item)


def item_text(item: Any) -> str:
    """The value in a few words."""
    if is_array(item):
        return f"{item.dtype}{list(item.shape)}"
    if isinstance(item, _IMMUTABLE):
        return repr(item)[:40]
    return f"{type(item).__name__} of {len(item)}" if isinstance(item, CONTAINERS) else (
        f"{type(item).__name__} object")


def hashable(key: Any) -> Hashable:
    """A key of a container, or what stands for it where it may be slow or unfit to hash."""
    return key if isinstance(key, str | int) else Same(key)
