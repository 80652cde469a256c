"""From the signature of a call to what was compiled for it.

Looking up takes no lock. Compiling for one signature happens in one thread while others that want
the same wait; different signatures compile at the same time.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, Generic, TypeVar

__all__ = ["DispatchCache", "Signature"]

V = TypeVar("V")
Key = Callable[[Any], Hashable]
_Group = tuple[tuple[int, ...], dict[Hashable, V]]


class Signature(Generic[V]):
    """What was compiled for one signature.

    That is one value, or several, each made for certain values of some arguments (`guards`: the
    arguments' indices). `used` orders signatures by their last use.
    """

    __slots__ = ("_groups", "_key", "_limit", "hits", "lock", "only", "used")

    def __init__(self, value_key: Key, limit: int) -> None:
        self._key = value_key
        self._limit = limit
        self._groups: tuple[_Group[V], ...] = ()
        self.only: V | None = None      # set where nothing depends on arguments' values
        # Reentrant, because tracing runs the user's code, which may call the function again. Two
        # threads each waiting for the other would need functions that, in one thread, call each
        # other for ever.
        self.lock = threading.RLock()
        self.used = 0
        self.hits = 0

    def find(self, leaves: Sequence[Any]) -> V | None:
        """What serves these arguments, or None."""
        if self.only is not None:
            return self.only
        for guards, made in self._groups:
            found = made.get(tuple([self._key(leaves[i]) for i in guards]))
            if found is not None:
                return found
        return None

    def add(self, value: V, guards: Mapping[int, object]) -> None:
        """Keep `value` for calls in which the arguments with these indices have these values."""
        if not guards:
            self.only = value
            return
        where = tuple(sorted(guards))
        key = tuple([self._key(guards[i]) for i in where])
        groups = {g: dict(made) for g, made in self._groups}
        made = groups.setdefault(where, {})
        made[key] = value
        while len(made) > self._limit:
            del made[next(iter(made))]
        self._groups = tuple(groups.items())    # replaced whole: readers take no lock

    def __len__(self) -> int:
        return (self.only is not None) + sum(len(made) for _, made in self._groups)


class DispatchCache(Generic[V]):
    """Signatures by key, at most `bound` of them; the one used longest ago goes first.

    >>> cache = DispatchCache(2)
    >>> cache.get_or_make("a", (), lambda: (1, {})), cache.find("a", ()), cache.find("b", ())
    (1, 1, None)
    """

    def __init__(self, bound: int, value_key: Key = lambda v: (type(v), v)) -> None:
        self.bound = bound
        self._key = value_key
        self._table: dict[Hashable, Signature[V]] = {}
        self._lock = threading.Lock()
        self._clock = itertools.count(1)

    def find(self, key: Hashable, leaves: Sequence[Any]) -> V | None:
        """What was made for this key and these arguments, or None."""
        signature = self._table.get(key)
        if signature is None:
            return None
        signature.used = next(self._clock)
        signature.hits += 1
        return signature.find(leaves)

    def get_or_make(self, key: Hashable, leaves: Sequence[Any],
                    make: Callable[[], tuple[V, Mapping[int, object]]]) -> V:
        """What was made for this, else what `make` gives, kept with its guards.

        `make` runs in one thread for each key at a time. If it raises, nothing is kept.
        """
        with self._lock:
            signature = self._table.get(key)
            if signature is None:
                signature = self._table[key] = Signature(self._key, self.bound)
        with signature.lock:
            try:
                found = signature.find(leaves)
                if found is None:
                    found, guards = make()
                    signature.add(found, guards)
                    self._keep(key, signature)
                return found
            finally:
                self._drop_if_empty(key, signature)

    def hits(self, key: Hashable) -> int:
        """How often something was found for this key, about."""
        signature = self._table.get(key)
        return signature.hits if signature is not None else 0

    def move(self, old: Hashable, new: Hashable) -> None:
        """Let what is kept under one key be found under another."""
        if old == new:
            return
        with self._lock:
            if old in self._table:
                self._table[new] = self._table.pop(old)

    def signatures(self) -> dict[Hashable, Signature[V]]:
        """A copy of the table."""
        with self._lock:
            return dict(self._table)

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._table.clear()

    def __len__(self) -> int:
        return len(self._table)

    def _keep(self, key: Hashable, signature: Signature[V]) -> None:
        signature.used = next(self._clock)
        with self._lock:
            self._table[key] = signature        # again: it may have been dropped meanwhile
            while len(self._table) > self.bound:
                del self._table[min(self._table, key=lambda k: self._table[k].used)]

    def _drop_if_empty(self, key: Hashable, signature: Signature[V]) -> None:
        with self._lock:
            if not len(signature) and self._table.get(key) is signature:
                del self._table[key]
