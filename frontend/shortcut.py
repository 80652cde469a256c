"""Calls like the last ones, on devices other than the CPU: straight to what served those.

The CPU has native entries for that. Elsewhere the device's program is called with the arguments as
they are, and says whether they fit. That saves most of what a call costs in Python, but a call that
does not fit has cost something by then. So a function whose calls vary takes the short way only
after longer and longer runs of calls that were alike.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from weft.frontend.pytree import LEAF, taker
from weft.frontend.watch import Watch
from weft.runtime.executable import MISSED, Executable

__all__ = ["Shortcut"]

Short: TypeAlias = Callable[[Sequence[Any]], Any]

_MOST = 1 << 20     # calls alike that are waited for


class Shortcut:
    """The short way of one function; `call` takes its positional arguments, or is None."""

    __slots__ = ("_alike", "_last", "_patience", "call")

    def __init__(self) -> None:
        self.call: Short | None = None
        self._last: Executable | None = None
        self._alike = 0             # calls in a row that `_last` has served
        self._patience = 1

    def missed(self) -> None:
        """A call did not fit."""
        self.call = None
        self._last = None
        self._patience = min(2 * self._patience, _MOST)

    def served(self, executable: Any, leaves: Sequence[Any], watch: Watch) -> None:
        """A device's executable is to serve a call that did not come the short way. `watch` is what
        the function reads beside its arguments, which was looked at for this call."""
        if executable is not self._last:
            self._last, self._alike = executable, 0
        self._alike += 1
        if self._alike == self._patience:
            short = _shorter(executable, leaves)
            self.call = short if short is None or watch.is_empty else _watching(short, watch)


def _watching(short: Short, watch: Watch) -> Short:
    """The short way as long as nothing can have changed that the function reads."""
    view = watch.view

    def call(args: Sequence[Any]) -> Any:
        return short(args) if watch.view is view and view.is_current() else MISSED
    return call


def _shorter(executable: Any, leaves: Sequence[Any]) -> Short | None:
    stage = executable.about
    call = stage.source.call
    if call.keywords or call.arguments.shapes or stage.specialized:
        return None
    direct: Short | None = executable.direct(leaves)
    if direct is None or all(tree is LEAF for tree in call.trees):
        return direct
    take = taker((tuple, None, *call.trees))
    if take is None:
        return None

    def through(args: Sequence[Any]) -> Any:
        leaves = take(args)
        return MISSED if leaves is None else direct(leaves)

    return through
