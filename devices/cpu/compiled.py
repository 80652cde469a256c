"""A compiled program: loaded code, and the facts about it that running it takes.

The facts are plain data, so that code and facts can be kept on disk and run in a later process
without any of the modules that made them.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import numpy as np

from weft.compiler.errors import LinAlgError, Origin, WeftError, failed_check
from weft.compiler.lazy_dataclass import dataclass
from weft.compiler.types import Dim, Size, TensorType, evaluate_dim
from weft.devices.cpu.engine import Entry, load, load_entry
from weft.devices.cpu.entry_spec import EntrySpec
from weft.devices.cpu.interrupts import INTERRUPTED, raise_pending
from weft.devices.cpu.linker import Code
from weft.devices.protocol import Array, Cache

__all__ = ["BAD_INDEX", "CONSTANTS", "MAIN", "CpuCompiled", "Facts", "Status"]

LARGE = 256 << 10       # results from this size on are 64-byte aligned, by native entries too
MAIN, CONSTANTS, BAD_INDEX = "main", "constants", "bad_index"   # what the code defines


@dataclass(frozen=True)
class Status:
    """What a status other than 0 stands for: a check that failed, of the fields of `Check`; of kind
    ``"linalg"``, the words of a `LinAlgError`; or, of kind ``"interrupt"``, a signal."""

    kind: str
    axis: int
    size: Dim
    origin: Origin | None
    text: str = ""

    def error(self, value: int, symbols: Mapping[str, int]) -> WeftError:
        """The error to raise."""
        if self.kind == "custom":
            from weft.devices.cpu.custom import failure  # for ops from outside only

            return failure(self.text, self.origin)
        if self.kind == "linalg":
            return LinAlgError(self.text, origin=self.origin)
        size = evaluate_dim(self.size, symbols)
        return failed_check(self.kind, value, self.axis, size, self.origin)


@dataclass(frozen=True)
class Facts:
    """What is to be known of a program to run it.

    `params` are types; `results` the types of the distinct results, each with its place among the
    pointers behind those of the parameters; `order` gives, for each result of the function, which
    of these it is, or, as -1 - i, that it is parameter i, overwritten. `symbols` names the values
    that main is given; `statuses` says what those that main returns stand for. `kernels` counts
    steps, and `work` their operations and bytes.
    """

    params: tuple[TensorType, ...]
    results: tuple[tuple[int, TensorType], ...]
    order: tuple[int, ...]
    symbols: tuple[str, ...]
    statuses: Mapping[int, Status]
    constants: tuple[Array, ...]
    kernels: int
    work: int | None
    externals: tuple[str, ...] = ()


class CpuCompiled:
    """Loaded native code for one program."""

    def __init__(self, code: Code, facts: Facts) -> None:
        self.code = code
        self.facts = facts
        self.library = load(code, symbols=_externals(facts.externals),
                            exports=(MAIN, CONSTANTS, BAD_INDEX))
        self._constants = self._fill_constants()
        address = self.library.address(MAIN)
        self._main = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, ctypes.c_void_p)(address)
        self._slots = 1 + max([slot for slot, _ in facts.results], default=-1)

    def _fill_constants(self) -> list[Array]:
        kept = [np.ascontiguousarray(a) for a in self.facts.constants]
        table = (ctypes.c_void_p * max(1, len(kept))).from_address(self.library.address(CONSTANTS))
        for i, a in enumerate(kept):
            table[i] = a.ctypes.data
        return kept

    @property
    def checks(self) -> bool:
        """Whether main can return a status other than 0."""
        return bool(self.facts.statuses)

    def run(self, arrays: Sequence[Array], /) -> list[Array]:
        """The results for these arguments; see the protocol. Raises `IndexError` as NumPy does."""
        facts = self.facts
        symbols = self._bind(arrays)
        made = [_aligned([evaluate_dim(d, symbols) for d in type.shape], type.dtype.numpy)
                for _, type in facts.results]
        n = len(arrays)
        pointers = (ctypes.c_void_p * (n + self._slots + 1))()
        for i, a in enumerate(arrays):
            pointers[i] = a.ctypes.data
        for (slot, _), a in zip(facts.results, made):
            pointers[n + slot] = a.ctypes.data
        sizes = (ctypes.c_int64 * (len(symbols) + 1))(*symbols.values())
        status = self._main(pointers, sizes)
        if status == INTERRUPTED:
            raise_pending()
        if status:
            raise self.error(status, symbols)
        return [made[i] if i >= 0 else arrays[-1 - i] for i in facts.order]

    def _bind(self, arrays: Sequence[Array]) -> dict[str, int]:
        """Values of the symbols, from the arguments' shapes."""
        out: dict[str, int] = {}
        if self.facts.symbols:
            for type, a in zip(self.facts.params, arrays):
                for d, n in zip(type.shape, a.shape):
                    if isinstance(d, Size) and len(d.symbols) == 1 and d == Size.symbol(str(d)):
                        out.setdefault(str(d), n)
        return {s: out[s] for s in self.facts.symbols}

    def error(self, status: int, symbols: Mapping[str, int]) -> WeftError:
        """The error that a status stands for."""
        value = ctypes.c_int64.from_address(self.library.address(BAD_INDEX)).value
        return self.facts.statuses[status].error(value, symbols)

    def entry(self, spec: EntrySpec, /, cache: Cache | None = None) -> Entry:
        """A native entry to `main` with this signature."""
        return load_entry(spec, self.library, cache)


def _externals(names: Sequence[str]) -> Mapping[str, int] | None:
    if not names:
        return None
    # for linear algebra, Fourier transforms and ops from outside only
    from weft.devices.cpu import custom, numpy_loops  # as said

    return {**numpy_loops.addresses(names), **custom.addresses(names)}


def _aligned(shape: Sequence[int], dtype: np.dtype[Any]) -> Array:
    """A new array; a large one begins at a multiple of 64 bytes, which streamed stores need."""
    nbytes = prod(shape) * dtype.itemsize
    if nbytes < LARGE:
        return np.empty(shape, dtype)
    raw = np.empty(nbytes + 64, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start:start + nbytes].view(dtype).reshape(shape)
