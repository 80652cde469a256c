"""One check, the device that it is made on, and what came of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from weft.compiler.build import Builder
from weft.compiler.ir import Graph
from weft.compiler.lazy_dataclass import dataclass
from weft.compiler.passes.calls import InlineCalls
from weft.compiler.passes.simplify import Decompose
from weft.compiler.target import Target
from weft.compiler.transforms import inline
from weft.devices.capabilities import lacking
from weft.devices.protocol import Compiled, Device
from weft.devices.registry import device_id, get_device

__all__ = ["Array", "Job", "Outcome", "Status", "Subject", "excuse", "failure", "run_jobs"]

Array = np.ndarray[Any, Any]
Status = Literal["passed", "failed", "skipped"]


@dataclass(frozen=True)
class Outcome:
    """What came of one check. `text` is the reason for skipping it, or how it failed."""

    group: str
    name: str
    dtype: str
    status: Status
    text: str = ""


@dataclass(frozen=True)
class Subject:
    """A device under test: the device, and the target that it is tested for."""

    device: Device
    target: Target
    name: str

    @staticmethod
    def of(name: str) -> Subject:
        """The device of this name, for its own target."""
        device = get_device(name)
        return Subject(device, device.target(), device_id(device))

    def __str__(self) -> str:
        return self.name

    def prepared(self, graph: Graph) -> Graph:
        """The graph in ops that the device has, without calls; no other passes are needed."""
        return Decompose(self.device.supported()).run(
            InlineCalls().run(graph, self.target), self.target)

    def compile(self, graph: Graph, donated: Sequence[int] = ()) -> Compiled:
        """The graph's program."""
        return self.device.lower(self.prepared(graph), self.target, donated).compile()

    def call(self, compiled: Compiled, arrays: Sequence[Array]) -> list[Array]:
        """Run a program on NumPy arrays, there and back."""
        memory = self.device.memory
        given = [np.ascontiguousarray(a).reshape(np.shape(a)) for a in arrays]
        return [memory.get(r) for r in compiled.run([memory.put(a) for a in given])]

    def run(self, graph: Graph, arrays: Sequence[Array]) -> list[Array]:
        """Compile the graph, without passes, and run it on NumPy arrays."""
        return self.call(self.compile(graph), arrays)


@dataclass(frozen=True, eq=False)
class Job:
    """A check: a graph to run on these arrays, and what its results have to be.

    `compare` gets the results, and raises an `AssertionError` where they are wrong.
    """

    group: str
    name: str
    dtype: str
    graph: Graph
    arrays: Sequence[Array]
    compare: Callable[[list[Array]], None]

    def outcome(self, status: Status, text: str = "") -> Outcome:
        """What came of it."""
        return Outcome(self.group, self.name, self.dtype, status, text)


def excuse(subject: Subject, group: str, name: str, dtype: str) -> str | None:
    """Why the device says that it does not do this, if it does."""
    lacks: Mapping[str, str] = subject.device.lacks()
    for key in (group, f"{group}/{name}", f"{group}/{name}/{dtype}", f"{group}/*/{dtype}"):
        if key in lacks:
            return lacks[key]
    return None


def run_jobs(subject: Subject, jobs: Sequence[Job]) -> Iterator[Outcome]:
    """Make the checks, as many at once as go together."""
    possible = []
    for job in jobs:
        why = excuse(subject, job.group, job.name.partition(" ")[0], job.dtype)
        if why is None:
            error = lacking(subject.prepared(job.graph), subject.device)
            why = error.what if error is not None else None
        if why is None:
            possible.append(job)
        else:
            yield job.outcome("skipped", why)
    if possible:
        yield from _together(subject, possible)


def _together(subject: Subject, jobs: Sequence[Job]) -> Iterator[Outcome]:
    """Run the jobs as one graph; where that fails, each half of them."""
    graph, arrays = _merged(jobs) if len(jobs) > 1 else (jobs[0].graph, list(jobs[0].arrays))
    try:
        results = iter(subject.run(graph, arrays))
    except Exception as error:      # of the device, which may raise anything
        if len(jobs) == 1:
            yield jobs[0].outcome("failed", failure(error))
            return
        middle = len(jobs) // 2
        yield from _together(subject, jobs[:middle])
        yield from _together(subject, jobs[middle:])
        return
    for job in jobs:
        try:
            job.compare([next(results) for _ in job.graph.results])
        except (AssertionError, StopIteration) as error:
            yield job.outcome("failed", failure(error))
        else:
            yield job.outcome("passed")


def _merged(jobs: Sequence[Job]) -> tuple[Graph, list[Array]]:
    b = Builder(jobs[0].name.partition(" ")[0])
    arrays: list[Array] = []
    results = []
    for job in jobs:
        params = []
        for param, array in zip(job.graph.params, job.arrays):
            params.append(b.param(f"x{len(arrays)}", param.tensor))
            arrays.append(array)
        results += inline(b, job.graph, params)
    return b.graph(results), arrays


def failure(error: BaseException) -> str:
    """An error in a few lines."""
    lines = [line.rstrip() for line in str(error).splitlines() if line.strip()]
    kind = "" if isinstance(error, AssertionError) else f"{type(error).__name__}: "
    return kind + "\n".join(lines[:8])
