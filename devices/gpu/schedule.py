"""Deciding how threads share a kernel: as plain data, from the kernel IR alone.

A kernel of kind ``points`` has a thread for every few points of its space. One of kind ``rows`` has
a team of threads for every row, which shares each stage's inner space and joins its reductions; a
team of one thread takes any stage as it is written.
"""

from __future__ import annotations

from math import prod

from weft.compiler.kernel.expr import Expr, index_values, walk
from weft.compiler.kernel.index import Axis, Index
from weft.compiler.kernel.ir import Kernel, Stage
from weft.compiler.lazy_dataclass import dataclass
from weft.compiler.types import Dim, TensorType

__all__ = ["Schedule", "again", "extent_of", "known", "places", "schedule", "unit_accesses"]

VECTOR_BYTES = 16       # what one instruction moves
THREADS = 256           # of a block, where nothing else decides
MOST_THREADS = 1024
BUSY = 1 << 16          # threads from which a device has enough to do
TURNS = 8               # of a team's threads along a row, up to which the team is kept small
HELD = 64               # 4-byte registers for what later stages need again
MOST_SUMS = 32          # 4-byte registers for sums of the rows that a thread has
MANY = 1 << 12          # updates that may meet, up to which one thread makes them in their order


@dataclass(frozen=True)
class Schedule:
    """How threads share a kernel.

    `threads` make a block. `vectors` has, for each stage, how many neighbouring elements a thread
    takes at a time. Of kind ``rows``: `team` threads share a row; with `across`, neighbouring
    threads take neighbouring rows, `columns` of them each, else neighbouring elements of a row;
    `held` has, for each stage, how many turns of a thread's loop are unrolled, so that what a later
    stage needs again stays in registers (0: it is read or computed again), and `parked` how many
    more keep it in shared memory. Updates that may meet are made one after another by one thread,
    or, with `meeting`, side by side: ``"atomic"``, by atomic operations in any order, or
    ``"last"``, where the last one wins, which is found out first.
    """

    kind: str
    threads: int
    vectors: tuple[int, ...]
    team: int = 1
    across: bool = False
    held: tuple[int, ...] = ()
    meeting: str = ""
    columns: int = 1
    parked: tuple[int, ...] = ()

    def __str__(self) -> str:
        words = [self.kind, f"{self.threads} threads"]
        if self.kind == "rows":
            words.append(f"{self.team} for a row" + (", rows side by side" * self.across))
            words += [f"{self.columns} for a thread"] if self.columns > 1 else []
        if any(v > 1 for v in self.vectors):
            words.append("vectors of " + ", ".join(map(str, self.vectors)))
        if any(self.held):
            words.append("held turns " + ", ".join(map(str, self.held)))
        if any(self.parked):
            words.append(", ".join(map(str, self.parked)) + " in shared memory")
        return ", ".join([*words, self.meeting] if self.meeting else words)


def schedule(kernel: Kernel, unaligned: frozenset[str] = frozenset(), shared: int = 0
             ) -> Schedule:
    """The schedule of a flattened kernel; `unaligned` are buffers that may begin anywhere, and a
    block may have `shared` bytes of memory."""
    if not kernel.reduces and not kernel.scratch:
        vectors = tuple(_points_vector(kernel, s, unaligned) for s in kernel.stages)
        return Schedule("points", THREADS, vectors, meeting=_meeting(kernel))
    return _rows(kernel, unaligned, shared)


# ---- sizes

def extent_of(axis: Axis, default: int = 256) -> int:
    """The extent of an axis, the most it can be, or a guess."""
    if isinstance(axis.extent, Index):
        return axis.extent.bounds[1] if axis.extent.bounds else default
    return known(axis.extent, default)


def known(d: Dim, default: int = 256) -> int:
    """A size, or a guess at it."""
    return d if isinstance(d, int) else d.evaluate(dict.fromkeys(d.symbols, default))


def _static(axes: tuple[Axis, ...]) -> bool:
    return all(isinstance(a.extent, int) for a in axes)


# ---- vectors

def unit_accesses(kernel: Kernel, stage: Stage, axis: Axis, width: int,
                  unaligned: frozenset[str]) -> tuple[list[Expr], list[int]]:
    """The loads, and the numbers of the stores, whose `width` elements along the axis from a
    multiple of it on lie side by side in memory, at a multiple of their size."""
    def fits(buffer: str, index: Index) -> bool:
        size = kernel.types[buffer].dtype.itemsize
        if index.coefficient(axis) != 1 or buffer in unaligned or width * size > VECTOR_BYTES \
                or kernel.types[buffer].size == 0:
            return False
        if axis in kernel.axes and any(v.expr.accs for v in index_values(index)):
            return False        # a result of each row's own
        rest = [c for atom, c in index.terms if atom != axis]
        return all(isinstance(c, int) and c % width == 0 for c in (*rest, index.const))

    scratch = {n for n, _ in kernel.scratch}
    loads = [e for e in walk(*stage.roots) if e.kind == "load" and e.what not in scratch
             and not any(axis in g.axes or g.accs for g in e.args) and fits(e.what, e.index[0])]
    stores = [i for i, s in enumerate(stage.stores) if s.guard is None and not s.combine
              and s.buffer not in scratch and fits(s.buffer, s.index[0])]
    return loads, stores


def _best_width(kernel: Kernel, stage: Stage, axis: Axis, tail: bool,
                unaligned: frozenset[str]) -> int:
    """The widest vector along an axis by which most accesses can be made."""
    scratch = {n for n, _ in kernel.scratch}
    names = [e.what for e in walk(*stage.roots) if e.kind == "load"]
    names += [s.buffer for s in stage.stores]
    touched = [kernel.types[n] for n in names if n not in scratch]
    sizes = [t.dtype.itemsize for t in touched if not _is_scalar(t)]
    width = VECTOR_BYTES // max(sizes, default=VECTOR_BYTES)
    while width > 1:
        whole = isinstance(axis.extent, int) and axis.extent % width == 0
        loads, stores = unit_accesses(kernel, stage, axis, width, unaligned)
        if (whole or tail) and 2 * (len(loads) + len(stores)) > len(sizes):
            return width
        width //= 2
    return 1


def _is_scalar(t: TensorType) -> bool:
    return t.size == 1


def _points_vector(kernel: Kernel, stage: Stage, unaligned: frozenset[str]) -> int:
    axes = (*kernel.axes, *stage.axes)
    if not axes or stage.checks or stage.ordered or any(s.guard for s in stage.stores):
        return 1
    width = _best_width(kernel, stage, axes[-1], len(axes) == 1, unaligned)
    if not _static(axes):
        return width
    points = prod(map(extent_of, axes))
    while width > 1 and points // width < BUSY // 4:        # few points: rather more threads
        width //= 2
    return width


# ---- rows

def _rows(kernel: Kernel, unaligned: frozenset[str], shared: int) -> Schedule:
    rows = prod(map(extent_of, kernel.axes))
    inner = [s for s in kernel.stages if s.axes]
    turns = max((prod(map(extent_of, s.axes)) for s in inner), default=1)
    if _across(kernel, inner):
        return _side_by_side(kernel, rows, turns, unaligned)
    wanted = [_row_vector(kernel, s, unaligned) for s in kernel.stages]
    vectors = tuple(min(w for other, w in zip(kernel.stages, wanted) if other.axes == s.axes)
                    for s in kernel.stages)         # so that threads meet the same elements again
    steps = max((-(-prod(map(extent_of, s.axes)) // v) for s, v in zip(kernel.stages, vectors)
                 if s.axes), default=1)
    team = 1
    while team < steps and (team < 32 or (team < MOST_THREADS and (
            team * TURNS < steps or rows * team < BUSY))):
        team *= 2
    threads = team if team > 32 else THREADS if rows * team >= BUSY else max(32, team)
    held, parked = _kept(kernel, team, vectors)
    if team == MOST_THREADS and not any(held):      # half the threads, with more registers each
        held, parked = _kept(kernel, team // 2, vectors, shared)
        if any(held):
            team = threads = team // 2
    return Schedule("rows", threads, vectors, team, False, held, parked=parked)


def _side_by_side(kernel: Kernel, rows: int, turns: int, unaligned: frozenset[str]) -> Schedule:
    """Threads with neighbouring rows: some of each, where nothing is held from stage to stage, and
    teams where there are few rows."""
    scalar = (1,) * len(kernel.stages)
    columns = _columns(kernel, unaligned)
    while True:
        units = -(-rows // columns)
        side = 1
        while side < 32 and side < units:           # threads of a block side by side
            side *= 2
        team = 1
        while team * side < MOST_THREADS and any(
                units * team < threads and team * least <= turns and (
                    team * side < THREADS or units * team < BUSY // 8)
                for threads, least in ((BUSY, 8), (4 * BUSY, 64))):
            team *= 2
        held, _ = _kept(kernel, team, scalar)
        if columns == 1 or not (any(held) or kernel.scratch):
            break
        columns = 1
    return Schedule("rows", max(side, THREADS // team) * team, scalar, team, True, held,
                    columns=columns)


def _columns(kernel: Kernel, unaligned: frozenset[str]) -> int:
    """How many neighbouring rows a thread takes: as many as it reads by one access, mostly."""
    last = kernel.axes[-1]
    if any(s.checks or s.ordered or any(w.guard or w.combine for w in s.stores)
           for s in kernel.stages):
        return 1
    columns = min(_best_width(kernel, s, last, False, unaligned) for s in kernel.stages
                  if s.axes)
    words = sum(max(4, r.value.dtype.itemsize) // 4 for r in kernel.reduces)
    while columns > 1 and columns * words > MOST_SUMS:
        columns //= 2
    return columns


def _score(indices: list[Index], axis: Axis) -> int:
    """How many accesses run through memory one by one along an axis, less those that jump."""
    steps = [ix.coefficient(axis) for ix in indices]
    return sum(2 if c in (1, -1) else 0 if c == 0 else -1 for c in steps)


def _memory(stages: list[Stage]) -> list[Index]:
    out = [e.index[0] for s in stages for e in walk(*s.roots) if e.kind == "load"]
    return out + [w.index[0] for s in stages for w in s.stores]


def _across(kernel: Kernel, inner: list[Stage]) -> bool:
    """Whether neighbours in memory are neighbouring rows."""
    if not inner or not kernel.axes or extent_of(kernel.axes[-1]) < 8:
        return False
    along = sum(_score(_memory([s]), s.axes[-1]) for s in inner)
    return _score(_memory(inner), kernel.axes[-1]) > along


def _row_vector(kernel: Kernel, stage: Stage, unaligned: frozenset[str]) -> int:
    if not stage.axes or not _static(stage.axes) or stage.checks or stage.ordered \
            or any(s.guard or s.combine for s in stage.stores):
        return 1
    return _best_width(kernel, stage, stage.axes[-1], False, unaligned)


def _kept(kernel: Kernel, team: int, vectors: tuple[int, ...], shared: int = 0
          ) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """For each stage, into how many turns its loop is unrolled to keep values in registers, and how
    many more keep theirs in `shared` bytes of memory."""
    held, parked = [], []
    for stage, v in zip(kernel.stages, vectors):
        same = [s for s in kernel.stages if s.axes == stage.axes]
        turns = more = 0
        if stage.axes and len(same) > 1 and _static(stage.axes):
            turns = -(-prod(map(extent_of, stage.axes)) // (team * v))
            words = sum(max(4, e.dtype.itemsize) // 4 for e in places(kernel, stage.axes))
            most = HELD // (2 if team > MOST_THREADS // 2 else 1) // (v * max(1, words))
            if not words or not most:
                turns = 0
            elif turns > most:
                turns, more = most, turns - most
                if more * v * words * team * 4 > shared:
                    turns = more = 0
        held.append(turns)
        parked.append(more)
    return tuple(held), tuple(parked)


def again(kernel: Kernel, axes: tuple[Axis, ...]) -> dict[Expr, tuple[int, int]]:
    """The loads, varying along the axes, of more than one stage over them, and scratch rows: the
    first and the last stage that each is needed in."""
    found: dict[Expr, list[int]] = {}
    scratch = {n for n, _ in kernel.scratch}
    for number, stage in enumerate(kernel.stages):
        if stage.axes == axes:
            for e in walk(*stage.roots):
                if e.kind == "load" and e.axes & frozenset(axes):
                    found.setdefault(e, []).append(number)
    stored = {s.buffer: number for number, stage in enumerate(kernel.stages)
              for s in stage.stores}
    return {e: (stored[e.what] if e.what in scratch else at[0], at[-1])
            for e, at in found.items() if len(at) > 1 or e.what in scratch}


def places(kernel: Kernel, axes: tuple[Axis, ...]) -> dict[Expr, list[Expr]]:
    """Where what is needed again is kept: what is not needed any more leaves its place to another.
    """
    out: dict[Expr, list[Expr]] = {}
    life = again(kernel, axes)
    for e in sorted(life, key=lambda e: life[e]):
        for first, others in out.items():
            if life[others[-1]][1] <= life[e][0] and first.dtype == e.dtype:
                others.append(e)
                break
        else:
            out[e] = [e]
    return out


# ---- updates

def _meeting(kernel: Kernel) -> str:
    """How updates that may meet are made, where there are too many for one thread's turns."""
    for stage in kernel.stages:
        if prod(map(extent_of, stage.ordered)) >= MANY and stage.ordered:
            if not any(s.combine for s in stage.stores):
                return "last"
            if all(kernel.types[s.buffer].dtype.itemsize <= 8 for s in stage.stores):
                return "atomic"
    return ""
