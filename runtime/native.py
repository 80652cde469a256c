"""Native entries: calls of compiled functions that never reach Python.

A function's entries form a chain: each checks the arguments against its signature and hands what
it does not expect to the next, the last one to the method `_dispatch`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from weft.compiler.ir import Graph
from weft.compiler.lazy_dataclass import dataclass
from weft.compiler.types import TensorType
from weft.devices.cpu.callable_type import native_callable, set_entry
from weft.devices.cpu.compiled import CpuCompiled
from weft.devices.cpu.engine import Entry
from weft.devices.cpu.interrupts import INTERRUPTED, raise_pending
from weft.devices.cpu.warm_up import begin_unless_kept, continue_unless_kept
from weft.devices.protocol import Cache, Compiled
from weft.runtime.arrays import Array, prepare, straightened

if TYPE_CHECKING:
    from weft.devices.cpu.entry_spec import EntrySpec
    from weft.devices.cpu.guard import Guard, Variable

__all__ = ["EntryChain", "native_class", "native_runner"]

T = TypeVar("T")

_LENGTH = 16                # signatures of one function that have an entry


def native_class(base: type[T], cache: Cache | None) -> type[T]:
    """A subclass of `base` whose instances can have entries, or `base` where that cannot be."""
    begin_unless_kept(cache)
    continue_unless_kept(cache)
    made: type[T] = native_callable(base)  # type: ignore[arg-type]
    return made


def _entry(compiled: Compiled, spec: EntrySpec, variables: Sequence[Variable],
           cache: Cache | None) -> Entry | Guard | None:
    try:
        entry: Entry | None = compiled.entry(spec, cache)
    except ValueError:                      # a size that no parameter tells
        return None
    if entry is None or not variables:
        return entry
    from weft.devices.cpu.guard import load_guard  # for functions that read variables

    return load_guard(entry, variables, len(spec.params) - sum(v.passed for v in variables), cache)


class _Flat:
    """Runs a program on flat arguments: what its native entry does not take goes through here."""

    def __init__(self, compiled: Compiled, dtypes: Sequence[np.dtype[Any]]) -> None:
        self._run = compiled.run
        self._dtypes = tuple(dtypes)
        self.entry: Entry | None = None

    def _dispatch(self, *leaves: Any) -> list[Array]:
        straight = straightened(leaves)
        if straight is not None:
            return self(*straight)          # natively, most likely
        return self._run(prepare(leaves, self._dtypes))

    __call__ = _dispatch

    def _native_error(self, status: int, *leaves: Any) -> list[Array]:
        if status == INTERRUPTED:
            raise_pending()
        return self._dispatch(*leaves)      # fails again, and tells why


Runner = Callable[..., list[Array]]


def native_runner(compiled: CpuCompiled, params: Sequence[tuple[str, TensorType]], graph: Graph,
                  cache: Cache | None) -> Runner | None:
    """A function from flat arguments to the program's results, by a native entry.

    For calls that only Python can take apart. None where there can be no entry.
    """
    from weft.runtime.entry_signature import entry_spec  # not for a first call

    results = [_Array(i) for i in range(len(graph.results))]
    spec = entry_spec(params, {}, results, graph, "list", compiled.facts)
    entry = _entry(compiled, spec, (), cache) if spec is not None else None
    flat: _Flat = native_class(_Flat, cache)(compiled, [type.dtype.numpy for _, type in params])
    if not isinstance(entry, Entry) or not set_entry(flat, entry.address):
        return None
    flat.entry = entry                      # held as long as it may be called
    return flat


@dataclass(frozen=True)
class _Array:
    """The output that a program's result is, as an array."""

    index: int
    kind: str = "array"
    value: object = None


class EntryChain:
    """The entries of one function."""

    def __init__(self) -> None:
        self._entries: list[Entry | Guard] = []     # held, because calls run their code

    def __len__(self) -> int:
        return len(self._entries)

    def switch(self, function: object, on: bool) -> None:
        """Let calls go to the entries, or all to `_dispatch`."""
        if self._entries:
            set_entry(function, self._entries[-1].address if on else 0)

    def add(self, function: object, compiled: Compiled, spec: EntrySpec,
            variables: Sequence[Variable] = (), cache: Cache | None = None) -> Entry | Guard | None:
        """Put an entry for the program before the others; None if that cannot be done.

        `variables` are those that a guard has to look at; the last parameters of `spec` are the
        ones among them that it passes on.
        """
        full = len(self._entries) >= _LENGTH
        entry = None if full else _entry(compiled, spec, variables, cache)
        if entry is None:
            return None
        if self._entries:
            entry.set_next(self._entries[-1].address)
        self._entries.append(entry)
        return entry if set_entry(function, entry.address) else None
