"""Compiled functions on the CPU: calls go straight into native code where they can."""

from __future__ import annotations

import functools
import threading
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from weft.devices.cpu.interrupts import INTERRUPTED, raise_pending
from weft.devices.registry import DEFAULT_DEVICE
from weft.frontend.jit import Jit
from weft.frontend.location import is_usual, on_change
from weft.frontend.places import Place, place_id
from weft.frontend.stages import CompiledStage
from weft.runtime.cache import disk_cache
from weft.runtime.executable import Executable
from weft.runtime.native import EntryChain, native_class, native_runner

if TYPE_CHECKING:
    from weft.devices.cpu.guard import Variable

__all__ = ["NativeJit", "native_jit_class"]

_RENEW = 64     # calls through Python between two looks at an entry
_undecided: WeakSet[NativeJit] = WeakSet()      # those with entries that name no device
_switching = threading.RLock()                  # held while entries are put in or taken out


class NativeJit(Jit):
    """A compiled function whose calls of known signatures need no Python."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._entries = EntryChain()

    def _native_error(self, status: int, /, *args: Any) -> Any:
        """What a native entry calls after a run has failed: the slower way tells why."""
        if status == INTERRUPTED:
            raise_pending()
        return self._dispatch(*args)

    def _see_to_entry(self, executable: Executable) -> None:
        """Let calls of this signature go straight to native code, where that is possible.

        Done at the second call, since many functions are called only once; and again from time to
        time while calls still come through Python, since guards can lose sight of variables.
        """
        if executable.about.options.device != DEFAULT_DEVICE:
            executable.countdown = -1
            return
        if not (self.options.device or is_usual()):
            executable.countdown = _RENEW
            return
        with self._lock, _switching:
            executable.countdown = _RENEW
            variables = self._variables(executable)
            if executable.entry is not None:
                if variables:
                    executable.entry.renew()
                return
            spec = executable.about.entry_spec()
            if spec is not None and variables is not None:
                executable.entry = self._entries.add(self, executable.compiled, spec, variables,
                                                     disk_cache())
                self._has_entries = len(self._entries) > 0
                if not self.options.device:
                    _undecided.add(self)
            else:
                executable.countdown = -1           # never again
                executable.runner = _runner(executable.about)

    def _variables(self, executable: Executable) -> list[Variable] | None:
        """What native code has to look at before it runs this, or None if it cannot."""
        view = self._watch.view
        if view.state != executable.state or view.deep or view.contents:
            return None
        held = {place_id(place): (place, value) for place, value in view.roots}
        passed = [place_id(p) if p else None for p, _ in executable.about.traced.traced.outside]
        if not all(p in held for p in passed):
            return None
        return [*(_variable(*held[p], passed=True) for p in passed if p),
                *(_variable(*held[p]) for p in held if p not in passed)]


def _switch() -> None:
    """Let calls go through Python while it can be that they are not for the CPU."""
    with _switching:
        for function in list(_undecided):
            function._entries.switch(function, is_usual())


on_change(_switch)


@functools.cache
def native_jit_class() -> type[NativeJit]:
    """The class that functions for the CPU are made of."""
    return native_class(NativeJit, disk_cache())


def _variable(place: Place, value: Any, passed: bool = False) -> Variable:
    from weft.devices.cpu.guard import Variable  # for functions that read variables

    return Variable(place[0], place[1], value, passed)


def _runner(stage: CompiledStage) -> Any:
    """What runs it on flat arguments natively, if that can be."""
    compiled: Any = stage.compiled
    if not hasattr(compiled, "facts"):          # of several devices
        return None
    return native_runner(compiled, stage.params, stage.traced.graph, disk_cache())
