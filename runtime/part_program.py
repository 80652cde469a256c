"""The programs of partitions: lowered when they have to be, compiled side by side."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator, Sequence
from functools import cached_property

from weft.compiler.errors import WeftError
from weft.compiler.ir import Graph, Node
from weft.compiler.target import Target
from weft.devices.protocol import Cache, Compiled, Device, Lowered
from weft.runtime.kept import KeptProgram

__all__ = ["PartProgram", "compile_all", "located"]


class PartProgram:
    """What a device makes of the graph of a partition, or of several that are equal."""

    def __init__(self, graph: Graph, device: Device, target: Target, donated: tuple[int, ...]
                 ) -> None:
        self.graph = graph
        self.device = device
        self.target = target
        self.donated = donated

    @cached_property
    def lowered(self) -> Lowered:
        """The device's program; the disk cache may save making it."""
        return self.device.lower(self.graph, self.target, self.donated)

    def place(self, cache: Cache | None) -> KeptProgram | None:
        """Where the compiled program is kept, if the device does that."""
        return None if cache is None else KeptProgram.of(
            self.graph, self.device, self.target.fast_math, self.donated, cache, "part ")

    def kernel_count(self, compiled: Compiled) -> int:
        """How many kernels run."""
        facts = getattr(compiled, "facts", None)
        return facts.kernels if facts is not None else len(self.lowered.kernels)


@contextlib.contextmanager
def located(node: Node) -> Iterator[None]:
    """Errors name the line of a partition where they name none."""
    try:
        yield
    except WeftError as error:
        error.origin = error.origin or node.origin
        raise


def compile_all(programs: Sequence[tuple[PartProgram, Node]], cache: Cache | None
                ) -> dict[PartProgram, Compiled]:
    """Each program compiled, each with a partition that it is for.

    Those that the cache has are taken from there, the others made on several threads. Of several
    errors, that of the first program is raised.
    """
    made: dict[PartProgram, Compiled] = {}
    missing = []
    for program, node in programs:
        place = program.place(cache)
        found = place.find() if place is not None else None
        if found is not None:
            made[program] = found
        else:
            missing.append(_Job(program, node, place, cache))
    _side_by_side(missing)
    for job in missing:
        made[job.program] = job.result()
    return made


class _Job:
    """A program to be compiled, in whichever thread."""

    def __init__(self, program: PartProgram, node: Node, place: KeptProgram | None,
                 cache: Cache | None) -> None:
        self.program = program
        self._node = node
        self._place = place
        self._cache = cache
        self._made: Compiled | None = None
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            with located(self._node):
                # a program that is kept whole has no need of its pieces
                self._made = self.program.lowered.compile(None if self._place else self._cache)
                if self._place is not None:
                    self._place.keep(self._made)
        except BaseException as error:
            self.error = error

    def result(self) -> Compiled:
        if self.error is not None:
            raise self.error
        assert self._made is not None
        return self._made


def _cores() -> int:
    """How many threads compile at once: as many as there are cores, and not too many contexts of
    LLVM's."""
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else ()
    return min(len(allowed) or os.cpu_count() or 1, 8)


def _side_by_side(jobs: Sequence[_Job]) -> None:
    """Run the jobs in order, several at a time; after an error none is begun."""
    waiting, lock = iter(jobs), threading.Lock()

    def work() -> None:
        while True:
            with lock:
                job = None if any(j.error for j in jobs) else next(waiting, None)
            if job is None:
                return
            job.run()

    count = min(len(jobs), _cores())
    threads = [threading.Thread(target=work, name=f"weft compiles {i}") for i in range(1, count)]
    for thread in threads:
        thread.start()
    try:
        work()
    finally:
        for thread in threads:
            thread.join()
