"""Long reductions with few rows become two kernels, so that all threads take part.

    sum over 1e6 elements   ->   partial[c] = sum over chunk c;  result = sum over partial

Chunks hold about CHUNK turns and never depend on the number of threads, so neither do results.
The second kernel is the first one with the reduction's stage replaced; a later stage may be split
in its turn, and then begins by combining the partial results that it needs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import count
from math import prod

from weft.compiler.kernel.expr import Expr
from weft.compiler.kernel.index import Axis, Index, Quotient, as_index, smaller
from weft.compiler.kernel.ir import Buffer, Kernel, Program, Reduce, Stage, Step, Store
from weft.compiler.kernel.plan import plan_memory
from weft.compiler.kernel.rename import Substitution, canonical, traffic, work
from weft.compiler.target import Target
from weft.compiler.types import Dim, Size, TensorType

__all__ = ["CHUNK", "split_reductions"]

CHUNK = 1 << 15         # turns in one chunk
LONG = 2 * CHUNK        # turns, of all rows together, from which a reduction is split
FEW_ROWS = 64           # with more rows, these are enough for the threads
CYCLES = 64             # chunks of a symbolic size: each takes every CYCLES-th block
_OPS = frozenset({"sum", "prod", "max", "min", "and", "or"})


def split_reductions(program: Program, target: Target) -> Program:
    """The program with its long reductions over few rows done in two steps each.

    `target` is there for its device; the split is the same for any number of threads.
    """
    steps: list[Step] = []
    buffers = list(program.buffers)
    for step in program.steps:
        steps += _split_step(step, buffers)
    if len(steps) == len(program.steps):
        return program
    return plan_memory(replace(program, steps=tuple(steps), buffers=tuple(buffers)))


def _split_step(step: Step, buffers: list[Buffer]) -> list[Step]:
    if not isinstance(step.kernel, Kernel):
        return [step]
    bound = dict(zip((n for n, _ in step.kernel.buffers), step.buffers))
    taken = {b.name for b in buffers}
    out: list[Step] = []
    kernel, number = step.kernel, 0
    while (found := _first_long(kernel, number)) is not None:
        number, axis = found
        parts = _Splitter(kernel, number, axis, f"{len(out)}")
        first, kernel = parts.partial(), parts.combining()
        for r, (inner, type) in zip(kernel.stages[number].reduces, parts.partials):
            name = next(n for k in count() if (n := f"{step.name}.part{r.number}.{k}") not in taken)
            taken.add(name)
            buffers.append(Buffer(name, type, "temp"))
            bound[inner] = name
        out.append(_bound_step(step, first, bound, f"{step.name}_part{len(out)}"))
        number += 1
    return [*out, _bound_step(step, kernel, bound, step.name)] if out else [step]


def _bound_step(step: Step, kernel: Kernel, bound: dict[str, str], name: str) -> Step:
    note = "a long reduction is done in chunks, whose results are then combined"
    return replace(step, kernel=canonical(kernel), name=name, flops=work(kernel),
                   nbytes=traffic(kernel), buffers=tuple(bound[n] for n, _ in kernel.buffers),
                   notes=(*step.notes, note))


# ---- which

def _first_long(kernel: Kernel, start: int) -> tuple[int, Axis] | None:
    """The first stage from `start` on that is worth splitting, and the axis to cut."""
    rows = kernel.rows
    if not isinstance(rows, int) or not 0 < rows <= FEW_ROWS or _ragged(kernel.axes):
        return None
    for i, stage in enumerate(kernel.stages[start:], start):
        if _splittable(kernel, i) and _long(stage, rows):
            return i, _axis_to_cut(stage, rows)
    return None


def _splittable(kernel: Kernel, i: int) -> bool:
    """Whether a stage only reduces, and what it needs of earlier stages is cheap to have again."""
    stage = kernel.stages[i]
    if not stage.axes or not stage.reduces or stage.stores or _ragged(stage.axes) \
            or not all(r.op in _OPS for r in stage.reduces):
        return False
    scratch = {n for n, _ in kernel.scratch}
    reads = {e.what for e in kernel.exprs if e.kind == "load"}
    earlier = _needed(kernel, i)
    return not (scratch & reads) and not any(s.stores or s.checks or _long(s, 1) for s in earlier)


def _ragged(axes: tuple[Axis, ...]) -> bool:
    return any(isinstance(a.extent, Index) for a in axes)


def _long(stage: Stage, rows: int) -> bool:
    extents = [a.extent for a in stage.axes]
    known = prod(d for d in extents if isinstance(d, int))
    return rows * known > LONG or any(isinstance(d, Size) for d in extents)


def _needed(kernel: Kernel, i: int) -> list[Stage]:
    """The earlier stages whose reductions a stage needs, directly or not."""
    wanted = _accs(kernel.stages[i])
    out: list[Stage] = []
    for stage in reversed(kernel.stages[:i]):
        if wanted & {r.number for r in stage.reduces}:
            wanted |= _accs(stage)
            out.insert(0, stage)
    return out


def _accs(stage: Stage) -> frozenset[int]:
    return frozenset().union(*(e.accs for e in stage.roots))


def _axis_to_cut(stage: Stage, rows: int) -> Axis:
    """The outermost axis if it gives enough chunks, else the longest one."""
    first = stage.axes[0]
    if isinstance(first.extent, Size) or any(isinstance(a.extent, Size) for a in stage.axes):
        return next(a for a in stage.axes if isinstance(a.extent, Size))
    longest = max(stage.axes, key=_extent)
    cut = _block(stage, first, rows)
    return first if cut * CYCLES <= _extent(first) or first is longest else longest


def _extent(axis: Axis) -> int:
    return axis.extent if isinstance(axis.extent, int) else 1


def _block(stage: Stage, axis: Axis, rows: int) -> int:
    """Turns of the axis in a chunk; a divisor of its extent where there is one near."""
    beside = prod(_extent(a) for a in stage.axes if a is not axis)
    most = max(1, CHUNK // max(1, rows * beside))
    if isinstance(axis.extent, Size):
        return most
    extent = _extent(axis)
    return next((n for n in range(min(most, extent), most // 2, -1) if extent % n == 0), most)


# ---- how

@dataclass(frozen=True)
class _Cut:
    """An axis cut into chunks: the chunk axis, the axes inside, and the old index by these."""

    chunks: Axis
    inside: tuple[Axis, ...]
    index: Index


def _cut(axis: Axis, block: int) -> _Cut:
    if isinstance(axis.extent, Size):
        return _cut_in_cycles(axis, axis.extent, block)
    extent = _extent(axis)
    chunks = Axis(f"{axis.name}c", -(-extent // block))
    begin = as_index(chunks) * block
    rest = block if extent % block == 0 else smaller(as_index(block), as_index(extent) - begin)
    if block == 1:
        return _Cut(chunks, (), begin)
    inside = Axis(f"{axis.name}e", rest)
    return _Cut(chunks, (inside,), begin + as_index(inside))


def _cut_in_cycles(axis: Axis, extent: Size, block: int) -> _Cut:
    """Chunk c takes the blocks c, c + CYCLES, c + 2*CYCLES, …, as many as there are."""
    chunks = Axis(f"{axis.name}c", CYCLES)
    stride = CYCLES * block
    begin = as_index(chunks) * block
    left = as_index(extent) - begin
    turn = Axis(f"{axis.name}t", as_index(Quotient(left + (stride - 1), stride)))
    begin = begin + as_index(turn) * stride
    if block == 1:
        return _Cut(chunks, (turn,), begin)
    inside = Axis(f"{axis.name}e", smaller(as_index(block), as_index(extent) - begin))
    return _Cut(chunks, (turn, inside), begin + as_index(inside))


class _Splitter:
    def __init__(self, kernel: Kernel, number: int, axis: Axis, prefix: str) -> None:
        self.kernel = kernel
        self.number = number
        self.axis = axis
        self.stage = stage = kernel.stages[number]
        rows = kernel.rows
        assert isinstance(rows, int)
        self.cut = _cut(axis, _block(stage, axis, rows))
        self.axes = tuple(x for a in stage.axes for x in
                          (self.cut.inside if a is axis else (a,)))
        shape: tuple[Dim, ...] = (_extent(self.cut.chunks), *(_extent(a) for a in kernel.axes))
        self.partials = [(f"p{prefix}_{r.number}", TensorType(shape, r.dtype))
                         for r in stage.reduces]

    def _at(self, chunk: Axis) -> tuple[Index, ...]:
        return (as_index(chunk), *map(as_index, self.kernel.axes))

    def partial(self) -> Kernel:
        """One row for each chunk (outermost) and row: the stage over the chunk, stored."""
        k, s = self.kernel, self.stage
        at = self._at(self.cut.chunks)
        stores = tuple(Store(name, at, Expr("acc", r.dtype, r.number))
                       for r, (name, _) in zip(s.reduces, self.partials))
        swap = Substitution(lambda a: self.cut.index if a == self.axis else None)
        stages = (*_needed(k, self.number), swap.stage(s, self.axes), Stage((), (), stores))
        return _with_buffers(replace(k, axes=(self.cut.chunks, *k.axes), stages=stages,
                                     outputs=tuple(n for n, _ in self.partials), scratch=()),
                             (*k.buffers, *self.partials))

    def combining(self) -> Kernel:
        """The kernel with the stage replaced by one over the chunks' results."""
        k = self.kernel
        chunks = replace(self.cut.chunks, name=self.cut.chunks.name + "p")
        reduces = tuple(
            Reduce(r.number, r.op, Expr("load", r.dtype, name, (), self._at(chunks)), r.dtype)
            for r, (name, _) in zip(self.stage.reduces, self.partials))
        stages = (*k.stages[:self.number], Stage((chunks,), reduces), *k.stages[self.number + 1:])
        buffers = (*(b for b in k.buffers if b[0] not in k.outputs), *self.partials,
                   *(b for b in k.buffers if b[0] in k.outputs))
        return _with_buffers(replace(k, stages=stages), buffers)


def _with_buffers(kernel: Kernel, buffers: tuple[tuple[str, TensorType], ...]) -> Kernel:
    """The kernel with those of the buffers that it reads or writes."""
    used = {e.what for e in kernel.exprs if e.kind == "load"} | set(kernel.outputs)
    return replace(kernel, buffers=tuple(b for b in buffers if b[0] in used))
