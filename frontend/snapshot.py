"""Whether anything that was read once has changed since, found out quickly.

A walk through objects and containers is made once; after that, as long as every place holds the
very same value and no container has grown, what the walk found still stands.
"""

from __future__ import annotations

from collections.abc import Hashable
from types import CellType
from typing import Any

import numpy as np

from weft.frontend.places import (
    MISSING,
    Place,
    Scope,
    hashable,
    is_simple,
    item_state,
    reachable,
    read_place,
)

__all__ = ["Snapshot"]


class Snapshot:
    """What stood at and below some values when it was taken; never changed.

    `state` is a hashable summary: numbers and names by value, arrays by type, or, with `contents`,
    by what they contain.
    """

    __slots__ = ("_arrays", "_cells", "_dicts", "_others", "_sizes", "contents", "state")

    def __init__(self, scope: Scope, contents: bool) -> None:
        self.contents = contents
        self.state: Hashable = ()
        self._dicts: list[tuple[dict[Any, Any], Any, Any]] = []
        self._cells: list[tuple[CellType, Any]] = []
        self._others: list[tuple[Place, Any]] = []
        self._arrays: list[tuple[Any, Any, Any, bool]] = []
        self._sizes: list[tuple[Any, int]] = []

    @classmethod
    def of_places(cls, places: list[tuple[Place, Any]], scope: Scope, contents: bool) -> Snapshot:
        """Of variables: the places, and what they hold."""
        made = cls(scope, contents)
        for place, value in places:
            made._note_place(place, value)
        made.state = tuple([made._walk(value, scope) for _, value in places])
        return made

    @classmethod
    def of_object(cls, value: Any, scope: Scope, contents: bool) -> Snapshot:
        """Of one object: what is below it."""
        made = cls(scope, contents)
        made.state = made._walk(value, scope)
        return made

    def is_current(self) -> bool:
        """Whether nothing can have changed since; False where that cannot be told."""
        if self.contents:
            return False
        for size in self._sizes:
            if len(size[0]) != size[1]:
                return False
        for holder, key, value in self._dicts:
            if holder.get(key, MISSING) is not value:
                return False
        for cell, value in self._cells:
            if read_place((cell, "cell_contents")) is not value:
                return False
        for place, value in self._others:
            if read_place(place) is not value:
                return False
        return all(a.shape == shape and a.dtype is dtype and a.flags.writeable is writeable
                   for a, shape, dtype, writeable in self._arrays)

    def _walk(self, value: Any, scope: Scope) -> Hashable:
        own = item_state(value, self.contents)
        if is_simple(value):
            return own
        self._note_size(value)
        below = []
        for place, item in reachable(value, scope):
            self._note_place(place, item)
            self._note_size(item)
            below.append((hashable(place[1]), item_state(item, self.contents)))
        return (own, *below)

    def _note_size(self, value: Any) -> None:
        held = value if isinstance(value, dict | list) else getattr(value, "__dict__", None)
        if held is not None:
            self._sizes.append((held, len(held)))

    def _note_place(self, place: Place, value: Any) -> None:
        holder, key = place
        attributes = getattr(holder, "__dict__", None)
        if isinstance(holder, CellType):
            self._cells.append((holder, value))
        elif type(holder) is dict:
            self._dicts.append((holder, key, value))
        elif attributes is not None and key in attributes:
            self._dicts.append((attributes, key, value))
        elif not isinstance(holder, tuple):
            self._others.append((place, value))
        if isinstance(value, np.ndarray):
            self._arrays.append((value, value.shape, value.dtype, value.flags.writeable))
