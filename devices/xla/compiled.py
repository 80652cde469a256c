"""What XLA has compiled, and running it."""

from __future__ import annotations

import atexit
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from weft.compiler.ir import Graph
from weft.devices.protocol import Cache, Direct
from weft.devices.xla.failures import as_weft
from weft.devices.xla.pending import PENDING
from weft.devices.xla.program import Check

if TYPE_CHECKING:
    from weft.devices.xla.lowered import XlaLowered

__all__ = ["XlaCompiled"]

# Numbers of 16 bits are rounded after every op, as NumPy rounds them.
_EXACT = {"xla_allow_excess_precision": False}
# What JAX raises, before anything has happened, for arguments of other types, shapes or places.
_MISFITS = (TypeError, ValueError)
_WIDE = frozenset(map(np.dtype, ("i8", "u8", "f8", "c16")))

# Nothing is lost where no call came after one that has failed. (JAX was loaded, and ends later.)
atexit.register(PENDING.end)


class XlaCompiled:
    """A program of XLA's, for each set of sizes that it met.

    Results are given while they are still being computed. What failed in a program that checks
    something is raised when it is known; see `pending`.
    """

    def __init__(self, lowered: XlaLowered) -> None:
        self.memory = lowered.device.memory
        self._lowered = lowered
        self._single = lowered.program.is_single
        self._lock = threading.Lock()
        self._made: dict[Any, _Made] = {}
        self._one = None if lowered.is_symbolic else self._make(None)

    def run(self, arrays: Sequence[Any], /) -> list[Any]:
        """The results for these arguments; see the protocol. NumPy's arrays are brought to the
        device, and have to stay as they are: see `XlaMemory.handing`."""
        if PENDING.waiting:
            PENDING.poll()
        made = self._one or self._for(arrays)
        call = made.inside if np.ndarray in map(type, arrays) else made.call
        try:
            results = call(*arrays)
            return [results] if self._single else results
        except jax.errors.JaxRuntimeError as error:
            raise self._told(error) from error

    def direct(self, host: Sequence[int]) -> Direct | None:
        """See the protocol. JAX itself compares types, shapes and places."""
        if self._one is None:
            return None
        return Direct(self._one.inside if host and self._one.is_wide else self._one.quickest(),
                      _MISFITS, self._told, self._single, PENDING.waiting, PENDING.poll)

    def text(self) -> str:
        """XLA's program after its optimisations."""
        made = [self._one] if self._one else [*self._made.values()]
        return "\n".join(str(m.compiled.as_text()) for m in made) or (
            "no sizes are known yet: compiled when it is called")

    def entry(self, spec: Any, /, cache: Cache | None = None) -> None:
        """There is no native entry."""

    def _told(self, error: Exception) -> Exception:
        """The error to raise for one that came while a program was begun."""
        xlas = isinstance(error, jax.errors.JaxRuntimeError)
        return as_weft(error, self._lowered.device.memory) if xlas else error

    def _for(self, arrays: Sequence[Any]) -> _Made:
        """The program for the sizes of these arguments, compiled if they are new."""
        key = tuple([a.shape for a in arrays])
        found = self._made.get(key)
        if found is None:
            with self._lock:
                found = self._made.get(key)
                if found is None:
                    found = self._made[key] = self._make(arrays)
        return found

    def _make(self, arrays: Sequence[Any] | None) -> _Made:
        lowered = self._lowered
        specs = None if arrays is None else [
            jax.ShapeDtypeStruct(a.shape, a.dtype) for a in arrays]
        device = lowered.device.jax_device()
        with jax.enable_x64(True), jax.default_device(device):
            traced, checks = lowered.traced(specs)
            options = None if lowered.fast_math else _EXACT
            return _Made(traced, traced.lower().compile(compiler_options=options), checks,
                         lowered.program.may_fail, lowered.graph)


class _Made:
    """XLA's program for one set of sizes. `call` and `inside` take the arguments one by one, and
    give what the program's function gives, but no status."""

    def __init__(self, traced: Any, compiled: Any, checks: Sequence[Check], fails: bool,
                 graph: Graph) -> None:
        # JAX keeps what it lowered as long as what it traced, which its own functions keep too: to
        # free a module takes 1.5 ms, a fifteenth of a small program's first call.
        self._traced = traced
        self.compiled = compiled
        # Whether arrays of NumPy's are taken for what they are only where JAX has 64 bits.
        self.is_wide = any(p.dtype.numpy in _WIDE for p in graph.params)
        self._fails = fails
        self.call = _checked(compiled, checks) if fails else compiled
        self.inside = _with_64_bits(self.call) if self.is_wide else self.call

    def quickest(self) -> Any:
        """`call` without the Python that JAX puts around its function in C++; the same where that
        function is not where it is looked for, since its name is none of JAX's public ones."""
        return self.call if self._fails else getattr(self.compiled, "_call", None) or self.compiled


def _checked(call: Callable[..., list[Any]], checks: Sequence[Check]) -> Callable[..., list[Any]]:
    """A program whose last result is its status."""
    def checked(*arrays: Any) -> list[Any]:
        results = call(*arrays)
        PENDING.add(results.pop(), checks)
        return results
    return checked


def _with_64_bits(call: Callable[..., list[Any]]) -> Callable[..., list[Any]]:
    def inside(*arrays: Any) -> list[Any]:
        with jax.enable_x64(True):
            return call(*arrays)
    return inside
