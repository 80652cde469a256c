"""Programs that check something while they run, and what failed in them.

The status of such a program is one result more. Nobody waits for it: it is looked at when the call
returns, if it is there by then, before each later call, and where the host waits for the device
(`Memory.wait`, `Memory.get`). The error is raised there, with the line that it came from.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from weft.devices.xla.program import Check

__all__ = ["PENDING", "Pending"]

_GRACE = 0.1        # seconds by which a status may come after the results


class Pending:
    """The statuses that were not looked at yet, the oldest first. Safe to use from many threads."""

    def __init__(self) -> None:
        self.waiting: deque[tuple[Any, Sequence[Check]]] = deque()

    def add(self, status: Any, checks: Sequence[Check]) -> None:
        """A program was begun, whose status is this array of JAX's. Raises what failed, if that is
        known already."""
        if self.waiting or not status.is_ready():
            self.waiting.append((status, checks))
        else:
            _look(status, checks)

    def poll(self) -> None:
        """Raise what is known by now to have failed; waits for nothing."""
        self._look(wait=False)

    def wait(self) -> None:
        """Wait for all programs that check something, and raise what failed first."""
        self._look(wait=True)

    def end(self) -> None:
        """Python ends: raise what has failed in programs whose results are there."""
        until = time.monotonic() + _GRACE
        while self.waiting and time.monotonic() < until:
            self.poll()
            time.sleep(_GRACE / 100)

    def _look(self, wait: bool) -> None:
        while self.waiting:
            try:
                status, checks = self.waiting.popleft()
            except IndexError:
                return                          # another thread was faster
            if not (wait or status.is_ready()):
                self.waiting.appendleft((status, checks))
                return
            _look(status, checks)


def _look(status: Any, checks: Sequence[Check]) -> None:
    number, value = np.asarray(status).tolist()
    if number:
        raise checks[number - 1].error(value)


PENDING = Pending()
