"""What XLA has compiled, and running it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from weft.devices.protocol import Cache
from weft.devices.xla.failures import as_weft
from weft.devices.xla.program import Check

if TYPE_CHECKING:
    from weft.devices.xla.lowered import XlaLowered

__all__ = ["XlaCompiled"]

# Numbers of 16 bits are rounded after every op, as NumPy rounds them.
_EXACT = {"xla_allow_excess_precision": False}


class XlaCompiled:
    """A program of XLA's, for each set of sizes that it met.

    Results are given while they are still being computed, except where the program can fail:
    such a program is waited for, and its error raised by the call, with the user's line.
    """

    def __init__(self, lowered: XlaLowered) -> None:
        self._lowered = lowered
        self._fails = lowered.program.may_fail
        self._symbolic = lowered.is_symbolic
        self._lock = threading.Lock()
        self._made: dict[Any, tuple[Any, list[Check]]] = {}
        if not self._symbolic:
            self._call, self._checks = self._make(None)

    def run(self, arrays: Sequence[Any], /) -> list[Any]:
        """The results for these arguments; see the protocol."""
        if self._fails or self._symbolic:
            results, check = self.start(arrays)
            check()
            return results
        try:
            return list(self._call(*arrays))
        except jax.errors.JaxRuntimeError as error:
            raise as_weft(error, self._lowered.device.memory) from error

    def start(self, arrays: Sequence[Any], /) -> tuple[list[Any], Callable[[], None]]:
        """The results, which may be still being computed, and a function that waits for them where
        they can fail, and raises what went wrong."""
        call, checks = self._for(arrays) if self._symbolic else (self._call, self._checks)
        try:
            results = list(call(*arrays))
        except jax.errors.JaxRuntimeError as error:
            raise as_weft(error, self._lowered.device.memory) from error
        if not self._fails:
            return results, _nothing
        status = results.pop()
        return results, lambda: _raise_first(checks, status)

    def text(self) -> str:
        """XLA's program after its optimisations."""
        if self._symbolic:
            made = list(self._made.values())
            return "\n".join(str(call.as_text()) for call, _ in made) or (
                "no sizes are known yet: compiled when it is called")
        return str(self._call.as_text())

    def entry(self, spec: Any, /, cache: Cache | None = None) -> None:
        """There is no native entry."""

    def _for(self, arrays: Sequence[Any]) -> tuple[Any, list[Check]]:
        """The program for the sizes of these arguments, compiled if they are new."""
        key = tuple([a.shape for a in arrays])
        found = self._made.get(key)
        if found is None:
            with self._lock:
                found = self._made.get(key)
                if found is None:
                    found = self._made[key] = self._make(arrays)
        return found

    def _make(self, arrays: Sequence[Any] | None) -> tuple[Any, list[Check]]:
        lowered = self._lowered
        specs = None if arrays is None else [
            jax.ShapeDtypeStruct(a.shape, a.dtype) for a in arrays]
        device = lowered.device.jax_device()
        with jax.enable_x64(True), jax.default_device(device):
            traced, checks = lowered.traced(specs)
            options = None if lowered.fast_math else _EXACT
            return traced.lower().compile(compiler_options=options), checks


def _nothing() -> None:
    """Nothing can have gone wrong."""


def _raise_first(checks: Sequence[Check], status: Any) -> None:
    number, value = np.asarray(status).tolist()
    if number:
        raise checks[number - 1].error(value)
