"""What a device is: the protocol that every backend fulfils.

A device says what its machine is (`target`), which ops it lowers (`supported`) and where its arrays
live (`memory`), and turns an optimised graph into a program (`lower`), the program into something
that runs (`compile`). Each stage is an object that can be looked into before the next one is asked
for.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from weft.compiler.errors import Origin, WeftError
from weft.compiler.ir import Graph
from weft.compiler.lazy_dataclass import dataclass
from weft.compiler.target import Target
from weft.compiler.types import DTYPES, Dim

if TYPE_CHECKING:
    from typing import Protocol
else:
    Protocol = object   # making a protocol takes as long as importing a small module

__all__ = ["Array", "Cache", "Compiled", "Device", "DeviceError", "DeviceLostError", "Direct",
           "KernelInfo",
           "Lowered", "Memory", "OutOfMemoryError", "ProgramKeeper", "out_of_memory"]

Array = np.ndarray[Any, Any]


class DeviceError(WeftError, RuntimeError):
    """A device that does not exist, cannot be used here, or does not offer what was asked."""


class OutOfMemoryError(DeviceError, MemoryError):
    """A device has not got the memory that a program or a transfer needs. It can be used on."""


class DeviceLostError(DeviceError):
    """A device that worked has stopped working; arrays that it held are gone."""


def out_of_memory(device: str, asked: int, held: int, total: int | None = None,
                  origin: Origin | None = None) -> OutOfMemoryError:
    """The error for `asked` bytes that a device has not got, where `held` are in use by now.

    >>> print(out_of_memory("gpu:0", 3 << 30, 5 << 29, 4 << 30))
    device 'gpu:0' is out of memory: 3.00 GiB were asked for, 2.50 GiB of 4.00 GiB are in use
      repair:   delete arrays that are not needed, donate arguments, or take smaller batches
    """
    of = f" of {_bytes_text(total)}" if total is not None else ""
    return OutOfMemoryError(
        f"device {device!r} is out of memory: {_bytes_text(asked)} were asked for, "
        f"{_bytes_text(held)}{of} are in use", origin=origin, repair=(
            "delete arrays that are not needed, donate arguments, or take smaller batches"))


def _bytes_text(count: int) -> str:
    for shift, unit in ((30, "GiB"), (20, "MiB"), (10, "KiB")):
        if count >> shift:
            return f"{count / (1 << shift):.2f} {unit}"
    return f"{count} bytes"


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


class Memory(Protocol):
    """Where a device's arrays live, and the way there and back.

    Arrays are those of the device's own library (`numpy.ndarray`, `cupy.ndarray`, `jax.Array`).
    Devices that compute on NumPy's share the one `HOST` of `weft.devices.host_memory`.

    Three methods more are used where a memory has them. ``handing(nbytes)`` gives a function of
    NumPy arrays of so many bytes that stands for `put` where a program is called with them: of what
    it gives, the device's programs know what to make. ``mark(arrays)`` gives a function without
    arguments that waits until what was begun so far is done, and raises nothing; unless there is
    one, `wait` is called with one of the arrays. ``here()`` gives a function that makes a context,
    in which another thread works as the one that called `here`: on its current stream, say.
    """

    def owns(self, value: object, /) -> bool:
        """Whether it is an array of the device's library that lies on this very device.

        Asked of any object that is met as an argument, so it has to be quick, and imports nothing:
        an array of a library that is not in `sys.modules` cannot exist.
        """

    def put(self, array: Array, /) -> Any:
        """A copy of a NumPy array on the device, C-ordered, perhaps while it is still being copied.

        The array itself may be changed as soon as this returns. Raises `OutOfMemoryError`.
        """

    def get(self, array: Any, /) -> Array:
        """A copy of a device's array as a NumPy array. Waits until it is computed."""

    def wait(self, arrays: Sequence[Any], /) -> None:
        """Wait until these are computed; raise what went wrong in computing them."""


class Compiled(Protocol):
    """A program ready to run. Safe to run from many threads at once.

    Where it has a method ``direct(host)``, calls like earlier ones go by the `Direct` that this
    gives, or None: for arguments of which those with the indices `host` come from the host, as
    `Memory.handing` makes them.
    """

    def run(self, arrays: Sequence[Any], /) -> list[Any]:
        """The results for these arguments, new arrays that share no memory with anything.

        Arguments and results are arrays of the device's memory. The arguments have exactly the
        element types and shapes of the graph's parameters (0-d arrays for scalars) and are
        C-contiguous, aligned and of native byte order; they may be read-only. Results are
        C-contiguous too. Where a device computes asynchronously they may be still being computed;
        what goes wrong then is raised by `Memory.wait` and `Memory.get`.
        """

    def entry(self, spec: Any, /, cache: Cache | None = None) -> Any:
        """A native entry made to `spec`, or None where the device has none (see `devices/cpu`)."""


@dataclass(frozen=True, eq=False)
class Direct:
    """A way into a compiled program that looks at its arguments itself.

    `call` takes them one by one and gives a new list of results, or the only one where it is
    `single`. Where they are not of the program's types and shapes, or lie elsewhere, it raises one
    of `misfits`, and nothing has happened; `told` gives what to raise for its other errors. `poll`
    is called before it where `waiting` holds anything: it raises what has gone wrong with earlier
    calls, if that is known.
    """

    call: Callable[..., list[Any]]
    misfits: tuple[type[Exception], ...]
    told: Callable[[Exception], Exception]
    single: bool = False
    waiting: Collection[Any] = ()
    poll: Callable[[], None] | None = None


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
    """One backend, on one piece of hardware.

    A class that names this one as its base has the defaults below; others write all of it. Devices
    are made by a function ``make(ordinal: int = 0)``, often the class itself, that raises an
    `ImportError` where a library is missing and a `DeviceError` where the hardware is.
    """

    @property
    def name(self) -> str:
        """The name it is asked for by, without the ordinal: ``"cpu"``."""

    @property
    def memory(self) -> Memory:
        """Where its arrays live."""

    @property
    def ordinal(self) -> int:
        """Which one of several alike it is, from 0: ``"gpu:1"`` has ordinal 1."""
        return 0

    def count(self) -> int:
        """How many alike there are here."""
        return 1

    def describe(self) -> str:
        """The hardware, for people: ``"NVIDIA H100 80GB HBM3"``."""
        return ""

    def target(self) -> Target:
        """The machine that passes and code generation decide on."""

    def supported(self) -> frozenset[str]:
        """The names of the ops it lowers; others are decomposed before it sees the graph."""

    def dtypes(self) -> frozenset[str]:
        """The names of the element types it has; graphs with others are refused before it."""
        return frozenset(DTYPES)

    @property
    def symbolic_sizes(self) -> bool:
        """Whether it lowers graphs whose sizes are known only when they run."""
        return True

    @property
    def subnormals(self) -> bool:
        """Whether it computes with subnormal numbers, rather than taking them for zeros."""
        return True

    def lacks(self) -> Mapping[str, str]:
        """What else it does not do as weft defines it, each with the reason.

        Keys are names of conformance checks, which are then listed as skipped: a group
        (``"errors"``), a check of a group (``"ops/sort"``), or that in one element type
        (``"ops/sort/f16"``, ``"ops/*/f16"``).
        """
        return {}

    def ulps(self) -> Mapping[str, int]:
        """Ops (or ``"op/dtype"``) whose results may be off by more than is usual, with the units in
        the last place that they may be: what the hardware's documentation says of its functions. Of
        factorizations and running ops, they are units of the greatest element; where vectors of
        these are determined up to a phase, any will do."""
        return {}

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
