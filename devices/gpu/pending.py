"""What went wrong on a device: checks that failed there, and the driver's own errors.

A program that checks indices writes what failed into a status, which lies on the device. `run` does
not wait for it. It is looked at when the host waits anyway (`Memory.wait`, `Memory.get`), and at
the next call of any program on that device, if it is done by then; the error is raised there, with
the line that it came from.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from weft.compiler.kernel.ir import Check
from weft.compiler.lazy_dataclass import dataclass
from weft.compiler.types import evaluate_dim
from weft.devices.gpu.driver import Driver, DriverError
from weft.devices.protocol import DeviceError, DeviceLostError, out_of_memory

__all__ = ["PENDING", "Pending", "device_error", "guarded"]


@dataclass(frozen=True)
class _Status:
    mark: Any                   # behind the program, in its stream
    array: Any                  # on the device
    checks: Sequence[Check]
    sizes: Mapping[str, int]


class Pending:
    """The statuses that were not looked at yet, by device."""

    def __init__(self) -> None:
        self._waiting: dict[int, deque[_Status]] = {}
        self._lock = threading.Lock()

    def add(self, driver: Driver, ordinal: int, status: Any, checks: Sequence[Check],
            sizes: Mapping[str, int]) -> None:
        """A program that was launched."""
        with self._lock:
            self._waiting.setdefault(ordinal, deque()).append(
                _Status(driver.record(), status, checks, sizes))

    def poll(self, driver: Driver, ordinal: int) -> None:
        """Raise what is known by now to have failed; waits for nothing."""
        if self._waiting.get(ordinal):
            self._look(driver, ordinal, wait=False)

    def wait(self, driver: Driver, ordinal: int) -> None:
        """Wait for all programs that check something, and raise what failed first."""
        if self._waiting.get(ordinal):
            self._look(driver, ordinal, wait=True)

    def _look(self, driver: Driver, ordinal: int, wait: bool) -> None:
        while True:
            with self._lock:
                queue = self._waiting[ordinal]
                if not queue or not (wait or driver.is_done(queue[0].mark)):
                    return
                status = queue.popleft()
            driver.finish(status.mark)
            number, value = (int(x) for x in np.asarray(driver.get(status.array))[:2])
            if number:
                check = status.checks[number - 1]
                raise check.error(value, evaluate_dim(check.size, status.sizes))


PENDING = Pending()


@contextmanager
def guarded(driver: Driver, ordinal: int) -> Iterator[None]:
    """The driver's errors as weft's."""
    try:
        yield
    except DriverError as error:
        raise device_error(error, driver, ordinal) from None


def device_error(error: DriverError, driver: Driver | None = None, ordinal: int = 0
                 ) -> DeviceError:
    """The error that users see."""
    name = f"gpu:{ordinal}"
    if error.kind == "memory" and driver is not None:
        held, total = driver.memory(ordinal)
        return out_of_memory(name, error.asked, held, total)
    if error.kind == "lost":
        return DeviceLostError(f"device {name!r} has stopped working: {error.text}", repair=(
            "its arrays are gone: start a new process"))
    repair = "update the driver, or install a CuPy for its version (cupy-cuda12x, cupy-cuda13x)" \
        if error.kind == "old" else "install NVIDIA's driver (nvidia-smi shows whether it works)"
    return DeviceError(f"device 'gpu' cannot be used here: {error.text}",
                       repair=f"{repair}, or use another device: 'cpu'")
