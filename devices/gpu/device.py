"""The GPU device: graphs become programs of kernels, kernels CUDA C++, that machine code."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from weft.compiler.cost import Costs
from weft.compiler.ir import Graph
from weft.compiler.target import Target
from weft.devices.costs import gpu_costs
from weft.devices.gpu.driver import Driver, DriverError, the_driver
from weft.devices.gpu.pending import PENDING, device_error, guarded
from weft.devices.gpu.target import target_named
from weft.devices.protocol import Array, Device, Memory

if TYPE_CHECKING:
    from weft.devices.gpu.lowered import GpuLowered

__all__ = ["GpuDevice", "GpuMemory"]

# Units in the last place of the greatest element: cuSOLVER's routines and CUB's scans take their
# sums in another order than LAPACK's and NumPy's. Powers of single complex numbers are computed in
# double here; the reference's are the C library's, which is off by so much on some systems.
_ULPS = {"cholesky": 16, "cumprod": 4, "cumsum": 4, "det": 64, "eigh": 400, "pow/c64": 64, "qr": 64,
         "slogdet": 64, "solve": 64, "svd": 160}


class GpuDevice(Device):
    """One of NVIDIA's GPUs, through CuPy."""

    name = "gpu"

    def __init__(self, ordinal: int = 0) -> None:
        """Raises `ImportError` without CuPy, `DeviceError` where there is no driver for it."""
        self._ordinal = ordinal
        try:
            self.driver: Driver = the_driver()
        except DriverError as error:
            raise device_error(error) from None
        self._memory = GpuMemory(self.driver, ordinal)

    @property
    def ordinal(self) -> int:
        """Which of several it is."""
        return self._ordinal

    @property
    def memory(self) -> GpuMemory:
        """CuPy's arrays on this device."""
        return self._memory

    def describe(self) -> str:
        """The device's name and architecture."""
        with guarded(self.driver, self.ordinal):
            return f"{self.driver.name(self.ordinal)}, {self.driver.architecture(self.ordinal)}"

    def count(self) -> int:
        """How many there are here."""
        return self.driver.count()

    def target(self) -> Target:
        """This device."""
        with guarded(self.driver, self.ordinal):
            return target_named(self.driver.architecture(self.ordinal),
                                self.driver.processors(self.ordinal),
                                "cublaslt" if self.driver.cublaslt() is not None else "")

    @property
    def costs(self) -> Costs:
        """What it costs, by its multiprocessors and clocks; see `weft.devices.costs`."""
        with guarded(self.driver, self.ordinal):
            core, memory = self.driver.clocks(self.ordinal)
            return gpu_costs(self.driver.processors(self.ordinal),
                             self.driver.architecture(self.ordinal), core, memory)

    def supported(self) -> frozenset[str]:
        """All ops but those that no schedule, table line or library covers."""
        from weft.devices.gpu.lowered import supported  # when a graph is lowered, not before

        return supported()

    def ulps(self) -> Mapping[str, int]:
        """What libraries are good to, as far as it has been seen on a GPU."""
        return _ULPS

    def lower(self, graph: Graph, target: Target, donated: Sequence[int] = ()) -> GpuLowered:
        """The program of kernels for an optimised graph."""
        from weft.devices.gpu.lowered import lower  # see above

        return lower(graph, target, donated, self.ordinal)


class GpuMemory(Memory):
    """A device's memory: `cupy.ndarray`, from CuPy's pool."""

    def __init__(self, driver: Driver, ordinal: int) -> None:
        self._driver = driver
        self._ordinal = ordinal

    def owns(self, value: object, /) -> bool:
        """Whether it is a CuPy array on this device."""
        return self._driver.owns(value, self._ordinal)

    def put(self, array: Array, /) -> Any:
        """A copy on the device."""
        with self._driver.use(self._ordinal), guarded(self._driver, self._ordinal):
            return self._driver.put(array)

    def get(self, array: Any, /) -> Array:
        """A copy on the host; raises what went wrong on the device before."""
        with self._driver.use(self._ordinal), guarded(self._driver, self._ordinal):
            PENDING.wait(self._driver, self._ordinal)
            return np.asarray(self._driver.get(array))

    def mark(self, arrays: Sequence[Any], /) -> Callable[[], None]:
        """A function that waits for what was launched by now; errors are told elsewhere."""
        with self._driver.use(self._ordinal), guarded(self._driver, self._ordinal):
            return partial(self._driver.finish, self._driver.record())

    def here(self) -> Callable[[], AbstractContextManager[None]]:
        """How another thread comes to use the stream that is current in this one."""
        with self._driver.use(self._ordinal):
            return partial(_on_stream, self._driver, self._ordinal, self._driver.current())

    def wait(self, arrays: Sequence[Any], /) -> None:
        """Wait until all that was launched is done; raise what went wrong."""
        with self._driver.use(self._ordinal), guarded(self._driver, self._ordinal):
            self._driver.finish(self._driver.record())
            PENDING.wait(self._driver, self._ordinal)


@contextmanager
def _on_stream(driver: Driver, ordinal: int, stream: AbstractContextManager[Any]) -> Iterator[None]:
    with driver.use(ordinal), stream:
        yield
