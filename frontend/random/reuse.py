"""Finding keys that are used twice, for those who ask for it."""

from __future__ import annotations

import weakref
from types import TracebackType
from typing import Any

import numpy as np

from weft.compiler.errors import Origin, WeftError, caller_origin
from weft.compiler.ir import Node
from weft.frontend.recording import Trace, active
from weft.frontend.tracer import Tracer

__all__ = ["KeyReuseError", "check_keys", "checking", "consume", "consume_value"]


class KeyReuseError(WeftError, ValueError):
    """A key from which numbers are drawn a second time."""


class _State:
    """Whether keys are checked, and which have been used where."""

    def __init__(self) -> None:
        self.on = False
        self.values: dict[int, str] = {}
        self.traces: weakref.WeakKeyDictionary[Trace, _Traced] = weakref.WeakKeyDictionary()


class _Traced:
    """The keys used while one function is traced.

    Nodes that do the same to the same are one key: ``keys[0]`` written twice is used twice.
    """

    def __init__(self) -> None:
        self.used: dict[Any, str] = {}
        self._names: dict[Node, Any] = {}
        self._numbers: dict[Any, int] = {}

    def name(self, node: Node) -> Any:
        """The same for equal nodes."""
        if node not in self._names:
            if node.op is None:
                what: Any = node
            else:
                attrs = tuple((k, v.tobytes() if isinstance(v, np.ndarray) else repr(v))
                              for k, v in sorted(node.attrs.items()))
                what = node.opname, attrs, tuple(map(self.name, node.inputs))
            self._names[node] = self._numbers.setdefault(what, len(self._numbers))
        return self._names[node]


_state = _State()


class check_keys:
    """Refuse keys that are used a second time, from now on; ``check_keys(False)`` ends it.

    A key is used by every function that draws from it, and by `split`; not by `fold_in`. Keys that
    are known, outside of compiled functions, are told apart by their value. Inside one, they are
    checked while it is traced, which does not see that a loop draws from one key in every turn, or
    that the function is called with one key twice. What had been compiled before is not checked.

    Also a context manager, behind which checking is as it was before. A second use raises
    `KeyReuseError`, which is a `ValueError`.

    >>> import weft
    >>> key = weft.random.key(0)
    >>> with weft.random.check_keys():
    ...     x = weft.random.uniform(key)
    ...     y = weft.random.uniform(key)        # doctest: +ELLIPSIS
    Traceback (most recent call last):
    weft.frontend.random.reuse.KeyReuseError: uniform got a key that was used before, ...
    """

    def __init__(self, enabled: bool = True) -> None:
        self._before = _state.on
        _state.on = bool(enabled)
        if not self._before:
            _state.values.clear()
            _state.traces.clear()

    def __enter__(self) -> check_keys:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:
        _state.on = self._before


def checking() -> bool:
    """Whether keys are checked."""
    return _state.on


def consume_value(key: Any, what: str) -> None:
    """Note that a known key is used."""
    if isinstance(key, (np.generic, np.ndarray)) and np.shape(key) == () and key.dtype == np.uint64:
        _note(_state.values, int(key), what)


def consume(key: Any, node: Node, what: str) -> None:
    """Note that a key of the running trace is used."""
    trace = active()
    if not _state.on or trace is None:
        return
    seen = _state.traces.setdefault(trace, _Traced())
    _note(seen.used, seen.name(node) if type(key) is Tracer else ("value", int(key)), what)


def _note(used: dict[Any, str], key: Any, what: str) -> None:
    origin = caller_origin()
    before = used.get(key)
    if before is not None:
        raise KeyReuseError(
            f"{what} got a key that was used before, by {before}", origin=origin,
            expected="every key to be used once: the same key gives the same numbers",
            repair="make new keys of it first: key, other = weft.random.split(key)")
    used[key] = f"{what} at {_place(origin)}"


def _place(origin: Origin | None) -> str:
    if origin is None:
        return "an unknown line"
    source = origin.source()
    return f"{origin}" + (f": {source}" if source else "")
