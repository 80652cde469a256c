"""CUDA graphs: a program that runs again on the same memory is launched as a whole.

A graph holds the addresses that its kernels were given. CuPy's pool gives a loop that calls one
function the same blocks again and again, so the memory of a call (arguments, results, temporaries)
and its sizes are the key under which a graph is kept: nothing is copied into static buffers, and
other memory means another graph. In it, steps that do not wait for each other lie side by side (see
`lanes`). The second call on the same memory records one; those after it
launch that. What a call never meets again is forgotten, the longest unused first.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any

from weft.compiler.kernel.ir import Library, Program
from weft.compiler.kernel.nested import Loop
from weft.devices.gpu.blas import MATMUL
from weft.devices.gpu.driver import Driver, Fork
from weft.devices.gpu.emit import has_code

__all__ = ["Replay", "replayable", "set_replay"]

FEW = 2             # launches from which a graph saves any time
MOST = 4096         # launches in one graph
KEPT = 16           # graphs for one program
REMEMBERED = 64     # calls that are waited for to come again
HOPELESS = 512      # calls of which none came again, after which no more are remembered

_enabled = True


def set_replay(enabled: bool) -> bool:
    """Whether programs are replayed from now on; returns whether they were before.

    >>> set_replay(set_replay(False))
    False
    """
    global _enabled
    before, _enabled = _enabled, enabled
    return before


def replayable(program: Program) -> bool:
    """Whether a program's work is known before it runs, and is worth a graph.

    It is not where the host has to read what the device computes (branches, loops with a
    condition), nor where a library allocates memory of its own.
    """
    count = _launches(program)
    return count is not None and FEW <= count <= MOST


def _launches(program: Program) -> int | None:
    total = 0
    for step in program.steps:
        k = step.kernel
        inside: int | None = 1
        if isinstance(k, Loop):
            body = _launches(k.body) if k.cond is None else None
            inside = body * k.length if body is not None and isinstance(k.length, int) else None
        elif isinstance(k, Library):
            inside = 1 if k.op == MATMUL or has_code(k) else None
        elif not hasattr(k, "stages"):
            inside = None
        if inside is None:
            return None
        total += inside
    return total


class Replay:
    """The graphs of one program on one device."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seen: OrderedDict[Hashable, None] = OrderedDict()
        self._graphs: OrderedDict[Hashable, tuple[Any, Any]] = OrderedDict()
        self._alone = 0                     # calls that were met once, since one was met again

    def run(self, driver: Driver, key: Hashable, work: Callable[[Fork | None], None],
            owned: list[Any]) -> None:
        """Do the work, which a graph of this key does as well; `owned` is what it allocates."""
        if not _enabled or self._alone > HOPELESS or driver.capturing():
            work(None)
            return
        with self._lock:                    # a graph is not to be dropped while it is launched
            found = self._graphs.get(key)
            if found is not None:
                self._graphs.move_to_end(key)
                driver.replay(found[0])
                return
            again = self._again(key)
        if not again:
            work(None)
            return
        before = len(owned)
        graph = driver.capture(work)
        with self._lock:
            driver.replay(graph)
            self._graphs[key] = graph, owned[before:]
            del owned[before:]
            while len(self._graphs) > KEPT:
                self._graphs.popitem(last=False)

    def _again(self, key: Hashable) -> bool:
        """Whether a call on this memory was met before."""
        if key in self._seen:
            del self._seen[key]
            self._alone = 0
            return True
        self._alone += 1
        self._seen[key] = None
        while len(self._seen) > REMEMBERED:
            self._seen.popitem(last=False)
        return False
