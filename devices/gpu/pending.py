"""What went wrong on a device: checks that failed there, and the driver's own errors.

A program that checks indices has a status, two words on the device, into which the first check that
fails is written. Each call ends with a copy of them to the host, which nobody waits for: `poll`
looks at the host's words, and costs next to nothing. The error is raised at the next call of any
program on that device, if it is known by then, or where the host waits anyway (`Memory.wait`,
`Memory.get`), with the line that it came from. Of failures that were not seen yet, a program keeps
the first.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from weft.compiler.kernel.ir import Check
from weft.compiler.types import evaluate_dim
from weft.devices.gpu.driver import Driver, DriverError
from weft.devices.protocol import DeviceError, DeviceLostError, out_of_memory

__all__ = ["PENDING", "Pending", "Status", "device_error", "guarded"]

WORDS = 3           # which check failed, on what value, and whether a loop goes on
_TOLD = 16          # bytes of them that the host is told of


class Status:
    """What a program writes when a check fails: `pointer` is its address on the device."""

    def __init__(self, driver: Driver, checks: Sequence[Check], sizes: Mapping[str, int]) -> None:
        self._driver = driver
        self._checks = checks
        self._sizes = sizes
        self._there = driver.empty((WORDS,), np.dtype(np.int64))
        self._here = driver.pinned(WORDS)
        self.pointer = driver.pointer(self._there)
        self.clear()

    @property
    def flag(self) -> int:
        """The address of the last word."""
        return self.pointer + 8 * (WORDS - 1)

    def clear(self) -> None:
        """Nothing has failed yet."""
        self._driver.zero(self.pointer, 8 * WORDS)
        self._here[:] = 0

    def tell(self) -> None:
        """Let the host know, once what is in the stream by now is done."""
        self._driver.copy(self._here.ctypes.data, self.pointer, _TOLD)

    def raise_failure(self) -> None:
        """Raise what the host knows of; nothing has failed after that."""
        number, value = int(self._here[0]), int(self._here[1])
        if number:
            self._driver.finish(self._driver.record())      # those in the stream would tell again
            self.clear()
            raise self._error(number, value)

    def goes_on(self) -> bool:
        """Whether a loop's condition, which is the last word, holds; waits for it.

        Raises what has gone wrong by now: a loop need not end otherwise.
        """
        read = self._driver.read(self.pointer, 8 * WORDS)
        number, value, flag = (int(x) for x in np.frombuffer(read, np.int64))
        if number:
            raise self._error(number, value)
        return bool(flag & 0xFF)

    def _error(self, number: int, value: int) -> Exception:
        check = self._checks[number - 1]
        return check.error(value, evaluate_dim(check.size, self._sizes))


class Pending:
    """The statuses of programs that were called and not waited for since, by device; with each, a
    mark behind the last call on each stream, since a wait on one says nothing of another."""

    def __init__(self) -> None:
        self._waiting: dict[int, dict[tuple[int, int], tuple[Any, Status]]] = {}
        self._lock = threading.Lock()

    def add(self, driver: Driver, ordinal: int, status: Status) -> None:
        """A program was launched, and what it tells of its status."""
        mark = None if driver.capturing() else driver.record()
        with self._lock:
            self._waiting.setdefault(ordinal, {})[id(status), driver.stream()] = mark, status

    def poll(self, ordinal: int) -> None:
        """Raise what is known by now to have failed; waits for nothing."""
        waiting = self._waiting.get(ordinal)
        if waiting:
            with self._lock:
                found = list(waiting.values())
            for _, status in found:
                status.raise_failure()

    def wait(self, driver: Driver, ordinal: int) -> None:
        """Wait for all programs that check something, and raise what failed first."""
        waiting = self._waiting.get(ordinal)
        while waiting:
            with self._lock:
                if not waiting:             # another thread was faster
                    return
                mark, status = waiting.pop(next(iter(waiting)))
            if mark is not None:
                driver.finish(mark)
            status.raise_failure()


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
