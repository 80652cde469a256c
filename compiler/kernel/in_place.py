"""Where updates write: into the array that they update if nothing needs it afterwards, else a copy.

An update's kernel writes some elements of an output that has contents before (`Kernel.updates`).
Fusion leaves it with a buffer of its own. Here that buffer and the array's become one, which costs
nothing, or a step that copies the array is put before the update.
"""

from __future__ import annotations

from collections.abc import Mapping

from weft.compiler.kernel.expr import Exprs
from weft.compiler.kernel.index import Axis, as_index
from weft.compiler.kernel.ir import Kernel, Program, Stage, Step, Store
from weft.compiler.kernel.rename import axis_name, known
from weft.compiler.lazy_dataclass import replace
from weft.compiler.types import TensorType

__all__ = ["copy_step", "place_updates"]


def place_updates(program: Program, sources: Mapping[str, str], donated: frozenset[str]) -> Program:
    """The program with every update given the contents that it begins with.

    `sources` maps the buffers of updates to those of the arrays that they update; `donated` are
    parameters that may be overwritten.
    """
    if not sources:
        return program
    places = _Places(program, sources, donated)
    steps = [s for i in range(len(program.steps)) for s in places.step(i)]
    of = places.of
    steps = [replace(s, buffers=tuple(map(of, s.buffers))) for s in steps]
    return replace(program, steps=tuple(steps), results=tuple(map(of, program.results)),
                   buffers=tuple(b for b in program.buffers if of(b.name) == b.name))


class _Places:
    def __init__(self, program: Program, sources: Mapping[str, str], donated: frozenset[str]
                 ) -> None:
        self.program = program
        self.sources = sources
        self.donated = donated
        self.same: dict[str, str] = {}          # a buffer that is part of another's memory
        self.last: dict[str, int] = {}          # the last step that reads a buffer
        for i, step in enumerate(program.steps):
            for name in step.buffers:
                self.last[name] = i
                if name in sources and _updates(step, name):
                    self.last[sources[name]] = i

    def of(self, name: str) -> str:
        """The buffer whose memory holds this one."""
        while name in self.same:
            name = self.same[name]
        return name

    def step(self, i: int) -> list[Step]:
        """The step, with a copy before it if it is an update that cannot be done in place."""
        step = self.program.steps[i]
        out = next((n for n in step.buffers if _updates(step, n)), None)
        if out is None:
            return [step]
        x = self.sources[out]
        why_not = self.why_not(x, i, step)
        if why_not is not None:
            note = f"%{x} is copied before it is updated: {why_not}"
            return [copy_step(x, out, self.program.by_name[x].type, note), step]
        if self.of(x) in self.donated:
            self.same[out] = self.of(x)
        else:
            self.same[self.of(x)] = out
        return [replace(step, notes=(*step.notes, f"%{x} is updated in place"))]

    def why_not(self, x: str, i: int, step: Step) -> str | None:
        """None if step number i may overwrite the array."""
        kind = self.program.by_name[x].kind
        if kind == "constant" or (kind == "param" and x not in self.donated):
            return "it is an argument" if kind == "param" else "it is a constant"
        if x in self.program.results:
            return "it is a result"
        if self.last[x] > i:
            return "it is needed afterwards"
        return None if _reads_only_what_it_writes(step, x) else \
            "the kernel reads other elements of it"


def _updates(step: Step, name: str) -> bool:
    """Whether a step updates this buffer of the program."""
    k = step.kernel
    return isinstance(k, Kernel) and bool(k.updates) and any(
        bound == name and n == k.updates for bound, (n, _) in zip(step.buffers, k.buffers))


def _reads_only_what_it_writes(step: Step, name: str) -> bool:
    """Whether each element that a kernel reads of a buffer is the one that the turn writes."""
    k = step.kernel
    assert isinstance(k, Kernel)
    inner = {n for bound, (n, _) in zip(step.buffers, k.buffers) if bound == name}
    reads = [e for e in k.exprs if e.kind == "load" and e.what in inner]
    (stage,) = (s for s in k.stages if s.stores)
    return not reads or (not stage.ordered and all(
        e.index == stage.stores[0].index for e in reads))


def copy_step(source: str, target: str, type: TensorType, note: str) -> Step:
    """A step that copies a buffer."""
    axes = tuple(Axis(axis_name(i), d) for i, d in enumerate(type.shape))
    at = tuple(as_index(a) for a in axes)
    store = Store("b1", at, Exprs().load("b0", at, type.dtype))
    kernel = Kernel(tuple(a for a in axes if a.extent != 1), (Stage((), (), (store,)),),
                    (("b0", type), ("b1", type)), ("b1",))
    return Step(kernel, (source, target), f"copy_{target}".replace(".", "_"), ("copy",), (),
                (note,), 0.0, 2.0 * known(type.nbytes))
