"""Long reductions with few rows become two kernels, so that all threads take part.

    sum over 1e6 elements   ->   partial[c] = sum over chunk c;  result = sum over partial

Chunks hold about CHUNK turns and never depend on the number of threads, so neither do results.
The second kernel is the first one with the reduction's stage replaced; a later stage may be split
in its turn, and then begins by combining the partial results that it needs. Of an argmax, the first
kernel takes the chunks' greatest values; the second finds the first chunk that has the greatest of
these, and looks for it there.
"""

from __future__ import annotations

from itertools import count
from math import prod
from typing import TypeAlias

from weft.compiler.kernel.expr import Expr, walk
from weft.compiler.kernel.index import (
    Axis,
    Index,
    Quotient,
    Value,
    as_index,
    linearize,
    smaller,
    unravel,
)
from weft.compiler.kernel.ir import Buffer, Kernel, Program, Reduce, Stage, Step, Store
from weft.compiler.kernel.plan import change_nested, plan_memory
from weft.compiler.kernel.rename import Substitution, canonical, traffic, work
from weft.compiler.lazy_dataclass import dataclass, replace
from weft.compiler.target import Target
from weft.compiler.types import DTYPES, Size, TensorType

__all__ = ["CHUNK", "Chunks", "split_reductions"]

CHUNK = 1 << 15         # turns in one chunk
SEARCHED = 1 << 12      # turns in a chunk where an argmax is, which are run through again
LONG = 2 * CHUNK        # turns, of all rows together, from which a reduction is split
FEW_ROWS = 64           # with more rows, these are enough for the threads
CYCLES = 64             # chunks of a symbolic size: each takes every CYCLES-th block
BESIDE = 128            # rows that lie side by side, of a block of threads
SQUARE = 64 * 64        # results of a product, of a block of threads
DEEP = 256              # turns of a product's chunk, at the least
LEAST, DEEPEST = 64, 1024       # turns of a chunk of such rows
_OPS = frozenset({"sum", "prod", "max", "min", "and", "or"})
_ARGS = {"argmax": "max", "argmin": "min"}


@dataclass(frozen=True)
class Chunks:
    """When reductions are split, and into what: chunks of about `turns`, where all rows together
    have more than `long`, and there are at most `rows` of them, or `across` where neighbours in
    memory are neighbouring rows.

    With `blocks`, such rows have chunks from `least` turns on, so many that there are about that
    many blocks of `BESIDE` rows. With `products`, sums of products with fewer results than that
    many squares of `SQUARE` are cut for so many.
    """

    turns: int
    long: int
    rows: int
    across: int
    blocks: int = 0
    least: int = 0
    products: int = 0

    def room(self, turns: int, rows: int, across: bool, arg: bool, product: bool = False) -> int:
        """The most turns of a row that are a chunk, of so many that it has."""
        if product:
            return max(DEEP, turns * -(-rows // SQUARE) // self.products)
        most = min(SEARCHED, self.turns) if arg else self.turns
        if not across or not self.blocks:
            return max(1, most // (rows if across else 1))
        wanted = turns * -(-rows // BESIDE) // self.blocks
        return max(LEAST, min(wanted, LEAST if arg else DEEPEST))


def split_reductions(program: Program, target: Target, chunks: Chunks | None = None) -> Program:
    """The program with its long reductions over few rows done in two steps each.

    `target` is there for its device; the split is the same for any number of threads.
    """
    if chunks is None:
        chunks = Chunks(CHUNK, LONG, FEW_ROWS, FEW_ROWS)
    program = change_nested(program, lambda p: split_reductions(p, target, chunks))
    steps: list[Step] = []
    buffers = list(program.buffers)
    for step in program.steps:
        steps += _split_step(step, buffers, chunks)
    if len(steps) == len(program.steps):
        return program
    return plan_memory(replace(program, steps=tuple(steps), buffers=tuple(buffers)))


def _split_step(step: Step, buffers: list[Buffer], chunks: Chunks) -> list[Step]:
    if not isinstance(step.kernel, Kernel):
        return [step]
    bound = dict(zip((n for n, _ in step.kernel.buffers), step.buffers))
    taken = {b.name for b in buffers}
    out: list[Step] = []
    kernel, number = step.kernel, 0
    while (found := _first_long(kernel, number, chunks)) is not None:
        number, cut = found
        parts = _Splitter(kernel, number, cut, f"{len(out)}")
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

def _first_long(kernel: Kernel, start: int, chunks: Chunks) -> tuple[int, _Cut] | None:
    """The first stage from `start` on that is worth splitting, and how its space is cut."""
    rows = kernel.rows
    if not isinstance(rows, int) or rows <= 0 or _ragged(kernel.axes):
        return None
    for i, stage in enumerate(kernel.stages[start:], start):
        across = _across(kernel, stage)
        product = _is_product(stage) and chunks.products > 0 and rows >= SQUARE // 16
        few = 2 * rows <= chunks.products * SQUARE if product else \
            rows <= (chunks.across if across and not _is_product(stage) else chunks.rows)
        if (across or product) and chunks.blocks and _turns(stage) < chunks.least:
            continue
        if few and _splittable(kernel, i, chunks.long) and _long(stage, rows, chunks.long):
            cut = _cut(stage, rows, across or product, chunks, product)
            if cut is not None:
                return i, cut
    return None


def _splittable(kernel: Kernel, i: int, long: int) -> bool:
    """Whether a stage only reduces, and what it needs of earlier stages is cheap to have again."""
    stage = kernel.stages[i]
    symbolic = any(isinstance(a.extent, Size) for a in stage.axes)
    if not stage.axes or not stage.reduces or stage.stores or _ragged(stage.axes) \
            or not all(r.op in _OPS or (_searches(r) and not symbolic) for r in stage.reduces):
        return False
    scratch = {n for n, _ in kernel.scratch}
    reads = {e.what for e in kernel.exprs if e.kind == "load"}
    earlier = _needed(kernel, i)
    return not (scratch & reads) and not any(
        s.stores or s.checks or _long(s, 1, long) for s in earlier)


def _searches(r: Reduce) -> bool:
    """Whether it is an argmax or argmin that can be found by its value."""
    return r.op in _ARGS and not r.value.dtype.is_complex


def _ragged(axes: tuple[Axis, ...]) -> bool:
    return any(isinstance(a.extent, Index) for a in axes)


def _long(stage: Stage, rows: int, long: int) -> bool:
    extents = [a.extent for a in stage.axes]
    known = prod(d for d in extents if isinstance(d, int))
    return known > 0 and (rows * known > long or any(isinstance(d, Size) for d in extents))


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


def _across(kernel: Kernel, stage: Stage) -> bool:
    """Whether neighbours in memory are neighbouring rows, as in sums over the first axis: in no
    fewer of the loads than neighbouring turns."""
    loads = [e.index[-1] for e in walk(*stage.roots) if e.kind == "load" and e.index
             and e.axes & frozenset(stage.axes)]
    beside = sum(ix.coefficient(kernel.axes[-1]) == 1 for ix in loads) if kernel.axes else 0
    along = sum(ix.coefficient(stage.axes[-1]) == 1 for ix in loads) if stage.axes else 0
    return beside > 0 and beside >= along


def _turns(stage: Stage) -> int:
    """How many turns a stage has; of open sizes, many."""
    return prod(a.extent if isinstance(a.extent, int) else LONG for a in stage.axes)


def _is_product(stage: Stage) -> bool:
    """Whether it sums products of two values, as of two matrices, which there are better ways for.
    """
    return any(r.value.kind == "apply" and r.value.what == "mul"
               and r.value.args[0].axes != r.value.args[1].axes for r in stage.reduces)


# ---- how

@dataclass(frozen=True)
class _Cut:
    """How a stage's axes are cut: `chunks`, each of which is a row of its own, the axes `inside`
    a chunk, and the `index` that takes the place of the `axis` that was cut."""

    chunks: tuple[Axis, ...]
    inside: tuple[Axis, ...]
    axis: Axis
    index: Index
    across: bool


def _cut(stage: Stage, rows: int, across: bool, chunks: Chunks, product: bool) -> _Cut | None:
    """Axes from the outermost on are chunks as they are until a chunk fits behind them; the next
    one is cut. Where memory runs across rows, these share the chunk."""
    arg = any(r.op in _ARGS for r in stage.reduces)
    room = chunks.room(prod(map(_extent, stage.axes)), rows, across, arg, product)
    for p, axis in enumerate(stage.axes):
        behind = stage.axes[p + 1:]
        beside = prod(_extent(a) for a in behind)
        unknown = any(isinstance(a.extent, Size) for a in behind)
        if isinstance(axis.extent, Size):
            parts = _cut_in_cycles(axis, axis.extent, max(1, room // beside))
        elif unknown and _extent(axis) >= CYCLES:
            parts = _cut_in_blocks(axis, -(-_extent(axis) // CYCLES))
        elif not unknown and beside <= room:
            parts = _cut_in_blocks(axis, _block(_extent(axis), room // beside))
        else:
            continue
        chunk, inside, index = parts
        if product and _ragged(inside):
            return None             # which no schedule of products takes
        if prod(map(_extent, (*stage.axes[:p], chunk))) < 2:
            return None
        return _Cut((*stage.axes[:p], chunk), (*inside, *behind), axis, index, across)
    return None


def _extent(axis: Axis) -> int:
    return axis.extent if isinstance(axis.extent, int) else 1


def _block(extent: int, most: int) -> int:
    """Turns of an axis in a chunk, at most `most`; a divisor of its extent where one is near."""
    most = min(most, extent)
    return next((n for n in range(most, most // 2, -1) if extent % n == 0), most)


_Parts: TypeAlias = tuple[Axis, tuple[Axis, ...], Index]


def _cut_in_blocks(axis: Axis, block: int) -> _Parts:
    extent = _extent(axis)
    chunks = Axis(f"{axis.name}c", -(-extent // block))
    begin = as_index(chunks) * block
    if block == 1:
        return chunks, (), begin
    rest = block if extent % block == 0 else smaller(as_index(block), as_index(extent) - begin)
    inside = Axis(f"{axis.name}e", rest)
    return chunks, (inside,), begin + as_index(inside)


def _cut_in_cycles(axis: Axis, extent: Size, block: int) -> _Parts:
    """Chunk c takes the blocks c, c + CYCLES, c + 2*CYCLES, …, as many as there are."""
    chunks = Axis(f"{axis.name}c", CYCLES)
    stride = CYCLES * block
    begin = as_index(chunks) * block
    left = as_index(extent) - begin
    turn = Axis(f"{axis.name}t", as_index(Quotient(left + (stride - 1), stride)))
    begin = begin + as_index(turn) * stride
    if block == 1:
        return chunks, (turn,), begin
    inside = Axis(f"{axis.name}e", smaller(as_index(block), as_index(extent) - begin))
    return chunks, (turn, inside), begin + as_index(inside)


class _Splitter:
    def __init__(self, kernel: Kernel, number: int, cut: _Cut, prefix: str) -> None:
        self.kernel = kernel
        self.number = number
        self.stage = stage = kernel.stages[number]
        self.cut = cut
        # combining goes along the last axis; as with the array itself, that is which memory runs
        self.axes = (*cut.chunks, *kernel.axes) if cut.across else (*kernel.axes, *cut.chunks)
        self.at = tuple(map(as_index, self.axes))
        shape = tuple(map(_extent, self.axes))
        self.reduces = tuple(map(_without_place, stage.reduces))
        self.partials = [(f"p{prefix}_{r.number}", TensorType(shape, r.dtype))
                         for r in self.reduces]
        self.fresh = count(1 + max(r.number for r in kernel.reduces))

    def partial(self) -> Kernel:
        """One row for each chunk of each row: the stage over the chunk, stored."""
        k, s = self.kernel, self.stage
        stores = tuple(Store(name, self.at, Expr("acc", r.dtype, r.number))
                       for r, (name, _) in zip(self.reduces, self.partials))
        s = replace(s, reduces=self.reduces)
        swap = Substitution(lambda a: self.cut.index if a == self.cut.axis else None)
        stages = (*_needed(k, self.number), swap.stage(s, self.cut.inside),
                  Stage((), (), stores))
        return _with_buffers(replace(k, axes=self.axes, stages=stages, scratch=(),
                                     outputs=tuple(n for n, _ in self.partials)),
                             (*k.buffers, *self.partials))

    def combining(self) -> Kernel:
        """The kernel with the stage replaced by one over the chunks' results, and by searches of
        one chunk each."""
        k = self.kernel
        reduces, searches, results = [], [], {}
        for r, (name, t) in zip(self.stage.reduces, self.partials):
            part = Expr("load", t.dtype, name, (), self.at)
            number = next(self.fresh) if r.op in _ARGS else r.number
            reduces.append(Reduce(number, r.op, part, r.dtype))
            if r.op in _ARGS:
                search, results[r.number] = self._search(r, number)
                searches.append(search)
        swap = _Results(results)
        stages = (*k.stages[:self.number], Stage(self.cut.chunks, tuple(reduces)), *searches,
                  *(swap.stage(s, s.axes) for s in k.stages[self.number + 1:]))
        buffers = (*(b for b in k.buffers if b[0] not in k.outputs), *self.partials,
                   *(b for b in k.buffers if b[0] in k.outputs))
        return _with_buffers(replace(k, stages=stages), buffers)

    def _search(self, r: Reduce, number: int) -> tuple[Stage, Expr]:
        """A stage over the chunk that an argmax over the chunks found, and the position in all."""
        cut = self.cut
        chunk = _coordinates(Expr("acc", r.dtype, number), cut.chunks)
        axes, begin = cut.inside, cut.index
        if _ragged(axes):
            # the last chunk begins early enough to be as long as the others: what it has in common
            # with the one before it would have been found there
            block = _most(axes[0])
            first = begin.substitute(lambda a: Index() if a == axes[0] else None)
            axes = (Axis(axes[0].name, block), *axes[1:])
            begin = smaller(first, as_index(_extent(cut.axis) - block)) + as_index(axes[0])
        best = _coordinates(Expr("acc", r.dtype, r.number), axes)
        found = chunk | best
        value = _placed(cut.axis, begin, chunk).expr(r.value)
        flat = linearize(tuple(_placed(cut.axis, begin, found).index(as_index(a))
                               for a in self.stage.axes), tuple(map(_extent, self.stage.axes)))
        return Stage(axes, (Reduce(r.number, r.op, value, r.dtype),)), \
            Expr("index", DTYPES["i64"], None, (), (flat,))


def _placed(axis: Axis, index: Index, at: dict[Axis, Index]) -> Substitution:
    """Axes replaced by indices, in the index that takes an axis's place too."""
    there = index.substitute(lambda a: at.get(a) if isinstance(a, Axis) else None)
    return Substitution(lambda a: there if a == axis else at.get(a))


def _without_place(r: Reduce) -> Reduce:
    """The reduction that gives the value of which an argmax gives the position."""
    if r.op not in _ARGS:
        return r
    op = _ARGS[r.op]
    if r.value.dtype.kind == "bool":
        op = "or" if op == "max" else "and"
    return replace(r, op=op, dtype=r.value.dtype)


class _Results(Substitution):
    """Replaces results of reductions, which the new expressions may use themselves."""

    def __init__(self, results: dict[int, Expr]) -> None:
        super().__init__(lambda a: None)
        self._results = results

    def expr(self, e: Expr) -> Expr:
        """The same expression over the new results."""
        return self._results.get(e.what, e) if e.kind == "acc" else super().expr(e)


def _coordinates(flat: Expr, axes: tuple[Axis, ...]) -> dict[Axis, Index]:
    """The turn that a flat position stands for."""
    most = [_most(a) for a in axes]
    at = unravel(as_index(Value(flat, prod(most))), tuple(most))
    return dict(zip(axes, at))


def _most(axis: Axis) -> int:
    bounds = axis.extent.bounds if isinstance(axis.extent, Index) else (0, _extent(axis))
    assert bounds is not None
    return bounds[1]


def _with_buffers(kernel: Kernel, buffers: tuple[tuple[str, TensorType], ...]) -> Kernel:
    """The kernel with those of the buffers that it reads or writes."""
    used = {e.what for e in kernel.exprs if e.kind == "load"} | set(kernel.outputs)
    return replace(kernel, buffers=tuple(b for b in buffers if b[0] in used))
