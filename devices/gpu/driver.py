"""What the device needs of a driver: memory, modules, launches, events. CuPy fulfils it.

`the_driver()` is CuPy's, made on first use; tests put another in its place, which runs the same
code on the host.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from typing import Protocol

    from weft.devices.gpu.cublaslt import CublasLt
    from weft.devices.gpu.lanes import Place
else:
    Protocol = object   # making a protocol takes as long as importing a small module

__all__ = ["Driver", "DriverError", "Fork", "set_driver", "the_driver"]

HostArray = np.ndarray[Any, Any]


class DriverError(Exception):
    """What a driver cannot do: `kind` is ``"absent"`` (no driver, or no device), ``"old"``,
    ``"memory"`` (`asked` bytes) or ``"lost"``."""

    def __init__(self, kind: str, text: str, asked: int = 0) -> None:
        super().__init__(text)
        self.kind = kind
        self.text = text
        self.asked = asked


class Fork(Protocol):
    """Lanes of a graph that is being captured."""

    def step(self, number: int, place: Place) -> AbstractContextManager[None]:
        """Within it, work goes to the place, as the step of this number."""

    def join(self) -> None:
        """What comes then waits for all lanes."""


class Driver(Protocol):
    """A driver. Work is put on the current stream of the current device, in order."""

    @property
    def xp(self) -> Any:
        """The library of arrays: `cupy`."""

    def count(self) -> int:
        """How many devices there are."""

    def name(self, ordinal: int) -> str:
        """What a device is called: ``"NVIDIA H100 80GB HBM3"``."""

    def architecture(self, ordinal: int) -> str:
        """What code is generated for: ``"sm_90"``."""

    def processors(self, ordinal: int) -> int:
        """How many multiprocessors a device has."""

    def clocks(self, ordinal: int) -> tuple[float, float]:
        """Cycles of its multiprocessors and bytes to and from its memory, a second, at the most;
        0 where the driver does not say."""

    def memory(self, ordinal: int) -> tuple[int, int]:
        """Bytes in use by this process's pool, and of the device in all."""

    def use(self, ordinal: int) -> AbstractContextManager[Any]:
        """Make a device the current one for a while."""

    # ---- arrays

    def owns(self, value: object, ordinal: int) -> bool:
        """Whether it is an array of the library on this device."""

    def empty(self, shape: Sequence[int], dtype: np.dtype[Any]) -> Any:
        """A new array from the pool. `DriverError` of kind ``"memory"`` where there is no room."""

    def pointer(self, array: Any) -> int:
        """Where an array begins."""

    def view(self, pointer: int, shape: Sequence[int], dtype: np.dtype[Any], owner: Any) -> Any:
        """An array over memory that `owner` keeps."""

    def put(self, array: HostArray) -> Any:
        """A copy of a host's array on the device."""

    def get(self, array: Any) -> HostArray:
        """A copy of a device's array on the host; waits for it."""

    def copy(self, target: int, source: int, nbytes: int) -> None:
        """Copy memory of the device, or from there to `pinned` memory."""

    def zero(self, target: int, nbytes: int) -> None:
        """Fill memory with zeros."""

    def pinned(self, words: int) -> HostArray:
        """64-bit words of the host's, to which the device copies while the host goes on."""

    def read(self, pointer: int, nbytes: int) -> bytes:
        """The contents of memory; waits for the stream."""

    # ---- code

    def compiler(self) -> str:
        """What makes machine code, with its version."""

    def build(self, source: str, arch: str, fast_math: bool) -> bytes:
        """Machine code for a text."""

    def load(self, image: bytes) -> Any:
        """Machine code, loaded on the current device for as long as the result lives."""

    def function(self, module: Any, name: str, shared: int = 0) -> int:
        """A kernel of loaded code, launched with so many bytes of dynamic shared memory."""

    def launch(self, function: int, grid: int, block: int, shared: int, params: int) -> None:
        """Run a kernel; `params` is the address of an array of its arguments' addresses."""

    # ---- graphs

    def capturing(self) -> bool:
        """Whether the current stream records what is put on it, for a graph of the user's."""

    def capture(self, work: Callable[[Fork], None]) -> Any:
        """A graph of what `work` puts on the stream, and on lanes beside it, none of which is done
        yet."""

    def replay(self, graph: Any) -> None:
        """Put all of a graph on the current stream."""

    # ---- libraries

    def strict(self) -> AbstractContextManager[Any]:
        """Within it, linear algebra raises `numpy.linalg.LinAlgError` where it fails."""

    def cublaslt(self) -> CublasLt | None:
        """cuBLASLt, where it is."""

    def stream(self) -> int:
        """The current stream."""

    def current(self) -> AbstractContextManager[Any]:
        """The same, to be entered in another thread."""

    # ---- time

    def record(self) -> Any:
        """A mark behind what is in the stream by now."""

    def finish(self, mark: Any) -> None:
        """Wait for all that is before a mark."""


_driver: Driver | None = None
_lock = threading.RLock()


def the_driver() -> Driver:
    """The driver; `ImportError` without CuPy, `DriverError` where it cannot be used."""
    global _driver
    with _lock:
        if _driver is None:
            _driver = _cupy()
        return _driver


def set_driver(driver: Driver | None) -> Driver | None:
    """Put another driver in its place (None: CuPy's, on next use); returns the one before."""
    global _driver
    with _lock:
        before, _driver = _driver, driver
        return before


def _cupy() -> Driver:
    from weft.devices.gpu.cupy_driver import CupyDriver  # imports CuPy

    make: Callable[[], Driver] = CupyDriver
    return make()
