"""What a function reads beside its arguments: globals, closed-over variables, attributes.

NumPy code sees a new value of these at the next call, so compiled code has to as well. The names
that the function and the user's functions called by it use are looked up: numbers and strings
found become part of the signature, and so do the types of arrays, whose contents are read anew at
each call. Functions and classes are taken to stay what they are, and what the function itself
changes while it is traced is not watched.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import Any

from weft.frontend.places import (
    CONTAINERS,
    Place,
    PlaceId,
    Scope,
    is_simple,
    item_state,
    item_text,
    place_id,
    reachable,
    read_place,
)
from weft.frontend.reading import Finder
from weft.frontend.snapshot import Snapshot

__all__ = ["View", "Watch"]


_OBJECTS = 64       # objects whose snapshots are kept


class View:
    """The outside values of one function as they were found once."""

    __slots__ = ("_objects", "_snapshot", "contents", "roots", "scope", "titles")

    def __init__(self, scope: Scope, roots: Iterable[Place], titles: dict[PlaceId, str],
                 contents: bool) -> None:
        """`titles` names the roots; `contents`: whether arrays count by what they contain."""
        self.scope = scope
        self.titles = titles
        self.contents = contents
        self.roots = tuple([(place, read_place(place)) for place in roots
                            if place_id(place) not in scope.ignored])
        self._snapshot = Snapshot.of_places(list(self.roots), scope, contents)
        self._objects: dict[int, tuple[Any, Snapshot]] = {}

    @property
    def state(self) -> Hashable:
        """What tracing may have read of and below the roots."""
        return self._snapshot.state

    @property
    def deep(self) -> bool:
        """Whether there is more to the roots than which objects they hold."""
        return any(not is_simple(value) for _, value in self.roots)

    def is_current(self) -> bool:
        """Whether the state cannot have changed since."""
        return self._snapshot.is_current()

    def again(self) -> View:
        """The same places with what they hold now."""
        made = View(self.scope, [p for p, _ in self.roots], self.titles, self.contents)
        made._objects = self._objects
        return made

    def state_of(self, value: Any) -> Hashable:
        """What tracing may have read at and below an object."""
        held = self._objects.get(id(value))
        if held is not None and held[0] is value and held[1].is_current():
            return held[1].state
        snapshot = Snapshot.of_object(value, self.scope, self.contents)
        if len(self._objects) >= _OBJECTS:
            self._objects.clear()
        self._objects[id(value)] = value, snapshot
        return snapshot.state

    def found(self, statics: Iterable[Any]) -> Iterator[tuple[Place, Any]]:
        """Every value watched, with the place that holds it."""
        for place in (place for place, _ in self.roots):
            value = read_place(place)
            yield place, value
            yield from reachable(value, self.scope)
        for value in statics:
            yield from reachable(value, self.scope)

    def states(self, statics: Iterable[Any]) -> dict[PlaceId, tuple[Place, Hashable]]:
        """The state at every place."""
        return {place_id(place): (place, item_state(value, False))
                for place, value in self.found(statics)}

    def describe(self, statics: Iterable[Any]) -> dict[str, str]:
        """Each watched value by name, as short text."""
        named = [(self.titles.get(place_id(place), "?"), value) for place, value in self.roots]
        texts = {name: item_text(value) for name, value in named}
        for name, value in (*named, *((type(v).__name__, v) for v in statics)):
            names = {id(value): name}
            for (holder, key), item in reachable(value, self.scope):
                dot = f"[{key!r}]" if isinstance(holder, CONTAINERS) else f".{key}"
                names.setdefault(id(item), names[id(holder)] + dot)
                texts[names[id(holder)] + dot] = item_text(item)
        return texts


class Watch:
    """The outside values that one function depends on, looked at again and again."""

    def __init__(self, fn: Callable[..., Any]) -> None:
        self._fn = fn
        self._view = View(Scope(), (), {}, False)
        self._everything = Scope()
        self._ignored: dict[PlaceId, Any] = {}     # with the holders, so that no id comes again

    @property
    def view(self) -> View:
        """What was found when last looked."""
        return self._view

    @property
    def is_empty(self) -> bool:
        """Whether nothing was found that may change."""
        return not self._view.roots

    @property
    def contents(self) -> bool:
        """Whether arrays count by what they contain."""
        return self._view.contents

    def look(self, statics: Iterable[Any] = ()) -> None:
        """Find the variables again; to be done before something is traced.

        `statics` are the call's arguments that are known by identity.
        """
        self._look(list(statics), self._view.contents)

    def state(self, statics: Iterable[Any] = ()) -> Hashable:
        """A value that differs from an earlier one when what was traced may no longer fit."""
        view = self._view
        if not view.is_current():
            view = self._view = view.again()
        states = [view.state_of(value) for value in statics]
        return (view.state, *states) if states else view.state

    def found(self, statics: Iterable[Any] = ()) -> Iterator[tuple[Place, Any]]:
        """Every value watched, with the place that holds it now."""
        return self._view.found(statics)

    def where(self, cls: type, statics: Iterable[Any] = ()) -> Place | None:
        """Where something of this class is held, if anywhere."""
        for place, value in self._view.found(()):
            if type(value) is cls:
                return place
        for value in statics:
            for place, item in reachable(value, self._everything):
                if type(item) is cls:
                    return place
        return None

    def states(self, statics: Iterable[Any] = ()) -> dict[PlaceId, tuple[Place, Hashable]]:
        """The state at every place, for `ignore_changes`."""
        return self._view.states(statics)

    def ignore_changes(self, before: dict[PlaceId, tuple[Place, Hashable]],
                       statics: Iterable[Any] = ()) -> None:
        """Stop watching what has changed since: the function did that itself.

        Otherwise a function that counts its calls would be compiled for each count.
        """
        after = self.states(statics)
        changed = {p: place for p, (place, state) in (before | after).items()
                   if p not in before or p not in after or before[p][1] != after[p][1]}
        if changed:
            self._ignored |= {p: place[0] for p, place in changed.items()}
            self._look(list(statics), self._view.contents)

    def count_contents(self, statics: Iterable[Any] = ()) -> None:
        """From now on, arrays count by what they contain."""
        self._look(list(statics), True)

    def describe(self, statics: Iterable[Any] = ()) -> dict[str, str]:
        """Each watched value by name, as short text."""
        return self._view.describe(statics)

    def _look(self, statics: list[Any], contents: bool) -> None:
        finder = Finder(self._fn, statics)
        finder.run()
        ignored = frozenset(self._ignored)
        self._everything = Scope(frozenset(finder.names), frozenset())
        scope = Scope(frozenset(finder.names - finder.written), ignored)
        self._view = View(scope, finder.roots.values(), finder.titles, contents)
