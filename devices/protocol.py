"""What a device is: the protocol that every backend fulfils.

A device says what its machine is (`target`) and which ops it lowers (`supported`), and turns an
optimised graph into a program (`lower`), the program into something that runs (`compile`). Each
stage is an object that can be looked into before the next one is asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from weft.compiler.errors import Origin, WeftError
from weft.compiler.ir import Graph
from weft.compiler.lazy_dataclass import dataclass
from weft.compiler.target import Target
from weft.compiler.types import Dim

if TYPE_CHECKING:
    from typing import Protocol
else:
    Protocol = object   # making a protocol takes as long as importing a small module

__all__ = ["Array", "Cache", "Compiled", "Device", "DeviceError", "KernelInfo", "Lowered",
           "ProgramKeeper"]

Array = np.ndarray[Any, Any]


class DeviceError(WeftError, RuntimeError):
    """A device that does not exist, cannot be used here, or does not offer what was asked."""


class Cache(Protocol):
    """Where compiled code is kept between processes. Keys are text digests made by the device."""

    def get(self, key: str) -> bytes | None:
        """What was put under `key`, or None."""

    def put(self, key: str, data: bytes) -> None:
        """Keep `data` under `key`; losing it later is allowed."""


@dataclass(frozen=True)
class KernelInfo:
    """What one kernel of a lowered program does, for `weft.explain`.

    `flops` and `nbytes` (read plus written, each array once) are of one run; they are symbolic
    where a size is. `merged` says why its ops stand in one kernel, `stopped` what kept the next
    op out, `fallback` why it does not run on the fast way (empty where it does). `inside` names
    the loop or branch that it belongs to; `turns` is how often it runs, None where only running
    tells (`flops` and `nbytes` are then of one turn).
    """

    name: str
    ops: tuple[str, ...]
    origins: tuple[Origin, ...] = ()
    flops: Dim = 0
    nbytes: Dim = 0
    merged: tuple[str, ...] = ()
    stopped: str = ""
    fallback: str = ""
    inside: str = ""
    turns: Dim | None = 1


class Compiled(Protocol):
    """A program ready to run. Safe to run from many threads at once."""

    def run(self, arrays: Sequence[Array], /) -> list[Array]:
        """The results for these arguments, new arrays that share no memory with anything.

        The arguments have exactly the element types and shapes of the graph's parameters (0-d
        arrays for scalars) and are C-contiguous, aligned and of native byte order; they may be
        read-only.
        """

    def entry(self, spec: Any, /, cache: Cache | None = None) -> Any:
        """A native entry made to `spec`, or None where the device has none (see `devices/cpu`)."""


class Lowered(Protocol):
    """A device's program for a graph, not yet machine code."""

    @property
    def kinds(self) -> tuple[str, ...]:
        """The texts it can show, from the most abstract: some of `kernels`, `llvm`, `asm`."""

    @property
    def kernels(self) -> tuple[KernelInfo, ...]:
        """Its kernels in the order in which they run."""

    def text(self, kind: str) -> str:
        """The program at one of the levels in `kinds`; a `DeviceError` for others."""

    def compile(self, cache: Cache | None = None) -> Compiled:
        """Machine code for the program, taken from `cache` where that has it."""


class Device(Protocol):
    """One backend."""

    @property
    def name(self) -> str:
        """The name it is asked for by: ``"cpu"``."""

    def target(self) -> Target:
        """The machine that passes and code generation decide on."""

    def supported(self) -> frozenset[str]:
        """The names of the ops it lowers; others are decomposed before it sees the graph."""

    def lower(self, graph: Graph, target: Target, donated: Sequence[int] = ()) -> Lowered:
        """The program for an optimised graph. `target` is `target()`, perhaps with options set.

        `donated` are parameters that the program may overwrite; `run` then gives some of them as
        results.
        """


class ProgramKeeper(Protocol):
    """What a device has, besides, whose compiled programs can be kept from process to process."""

    def program_key(self, digest: str, fast_math: bool) -> str:
        """A key for the program of a graph with this digest: different wherever the program would
        be, for another machine or version say. Empty where nothing can be kept."""

    def prepare(self) -> None:
        """Get ready on other threads, if that helps: a program was not found, and will be made."""

    def program_bytes(self, program: Any, origins: Sequence[Origin]) -> bytes | None:
        """A compiled program as bytes, or None where this one cannot be kept.

        `origins` are the lines of user code that its errors may name.
        """

    def read_program(self, data: bytes, origins: Sequence[Origin]) -> Compiled:
        """The program that `program_bytes` gave these bytes for. Raises `ValueError` for others."""
