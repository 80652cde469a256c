"""Deciding how a kernel's loops run: which axis takes the vector lanes, how many, in what units."""

from __future__ import annotations

from math import ceil

from weft.compiler.kernel.construct import expr_cost
from weft.compiler.kernel.expr import Expr, walk
from weft.compiler.kernel.index import Axis, Index
from weft.compiler.kernel.ir import Kernel, Stage
from weft.compiler.lazy_dataclass import dataclass
from weft.compiler.target import Target
from weft.compiler.types import Dim, Size

__all__ = ["Schedule", "schedule"]

PARALLEL_NS = 20_000.0      # work below this stays on the calling thread
GRAIN_NS = 8_000.0          # least work handed to a thread at a time
LONG_ROW = 1 << 16          # columns from which a sweep takes more of them at a time
CHAINED = {"threefry": 8}   # ops whose steps wait for each other: vectors to work on at a time,
LIGHT = 80.0                # and twice as few beside other arithmetic of more flops than this
STREAM_CACHES = 2           # results from so many times the last cache on are written past it


@dataclass(frozen=True)
class Schedule:
    """How the loops of a flattened kernel run.

    `across` is true when lanes lie along the last row axis (elementwise kernels, reductions down
    columns) and false when they lie along each stage's last inner axis (reductions along rows).
    `block` is how many elements of the last row axis make one unit of work when `across`.
    With `sweep`, reductions down columns read whole rows of a block of columns, accumulators in
    memory; with `stream`, stores go past the caches.
    """

    across: bool
    lanes: int
    block: int
    grain: int
    parallel: bool
    sweep: bool = False
    stream: bool = False


def schedule(kernel: Kernel, target: Target) -> Schedule:
    """The schedule of a flattened kernel on a target."""
    across = _across(kernel)
    lanes = _lanes(kernel, target, across)
    ns = _element_ns(kernel, lanes)
    inner = _inner_turns(kernel)
    sweep = across and _sweeps(kernel)
    block = _sweep_block(kernel, lanes) if sweep else \
        _block(kernel, lanes, ns * inner) if across else 1
    unit_ns = max(ns * inner * block, 1.0)
    total = unit_ns * max(1, _units(kernel, across, block))
    grain = max(1, ceil(GRAIN_NS / unit_ns))
    symbolic = bool(kernel.symbols)
    return Schedule(across, lanes, block, grain, symbolic or total > PARALLEL_NS, sweep,
                    across and _streams(kernel, lanes, target))


def _known(extent: Dim | Index, default: int = 256) -> int:
    if isinstance(extent, Index):
        return extent.bounds[1] if extent.bounds else default
    return extent if isinstance(extent, int) else extent.evaluate(
        dict.fromkeys(extent.symbols, default))


def _stages_in(kernel: Kernel) -> list[Stage]:
    return [s for s in kernel.stages if s.axes]


def _memory(kernel: Kernel, stages: list[Stage]) -> list[Index]:
    out = [e.index[0] for s in stages for e in walk(*s.roots) if e.kind == "load"]
    return out + [w.index[0] for s in stages for w in s.stores]


def _score(indices: list[Index], axis: Axis) -> int:
    """How many accesses run through memory one by one along an axis, less those that jump."""
    score = 0
    for ix in indices:
        c = ix.coefficient(axis)
        score += 2 if c in (1, -1) else 0 if c == 0 else -1
    return score


def _across(kernel: Kernel) -> bool:
    stages = _stages_in(kernel)
    if not stages:
        return True
    if not kernel.axes:
        return False
    if any(isinstance(a.extent, Index) for s in stages for a in s.axes):
        return False                # lanes next to one another would take different turns
    touched = _memory(kernel, stages)
    along = sum(_score(_memory(kernel, [s]), s.axes[-1]) for s in stages)
    width = _known(kernel.axes[-1].extent)
    turns = max(_known(s.axes[-1].extent) for s in stages)
    if turns <= 4 and width >= 4 * turns:
        return True
    return _score(touched, kernel.axes[-1]) > along and width >= 8


def _lanes(kernel: Kernel, target: Target, across: bool) -> int:
    exprs = kernel.exprs
    wide = max(_sizes(kernel, across), default=4)
    wide = 4 if wide == 2 else wide                     # 16-bit floats are computed in float32
    base = target.lanes(wide)
    cost = sum(map(expr_cost, exprs))
    gathers = any(_jumps(e, kernel, across) for e in exprs if e.kind == "load") \
        or (across and bool(kernel.axes) and any(
            w.index[0].coefficient(kernel.axes[-1]) not in (0, 1) for s in kernel.stages
            for w in s.stores))
    unroll = 1 if cost > 40 or gathers else 2 if cost > 14 else 4
    chained = [e for e in exprs if e.kind == "apply" and e.what in CHAINED]
    if chained:
        light = cost - sum(map(expr_cost, chained)) <= LIGHT
        unroll = max(CHAINED[e.what] for e in chained) // (1 if light else 2)
    elif target.registers <= 16:
        unroll = min(unroll, 2)
    elif unroll == 4 and not across and _latency_bound(kernel):
        unroll = 8
    lanes = base * unroll
    longest = _known(kernel.axes[-1].extent) if across and kernel.axes else _longest(kernel)
    while lanes > 1 and lanes // 2 >= max(longest, 1):
        lanes //= 2
    if not target.masked:
        while lanes > 1 and lanes > longest:
            lanes //= 2
    return lanes


def _longest(kernel: Kernel) -> int:
    """Turns that lanes along the stages' last axes can share, of what takes the most time."""
    stages = _stages_in(kernel)
    if kernel.updates:
        stages = [s for s in stages if s.stores]
    if any(s.axes[-1] in s.ordered for s in stages):
        return 1
    return max((_known(s.axes[-1].extent) for s in stages), default=1)


def _latency_bound(kernel: Kernel) -> bool:
    """Whether turns wait for one another: a long argmax compares with what the last one chose."""
    return all(len(s.reduces) == 1 and s.reduces[0].op in ("argmax", "argmin")
               and (s.most_turns or 0) >= 4096 for s in _stages_in(kernel))


def _sizes(kernel: Kernel, across: bool) -> list[int]:
    """Bytes of the elements that lanes hold; what is done once a row holds none."""
    stages = list(kernel.stages) if across else _stages_in(kernel)
    exprs = walk(*(r for s in stages for r in s.roots))
    buffers = {e.what for e in exprs if e.kind == "load"}
    buffers |= {w.buffer for s in stages for w in s.stores}
    sizes = [kernel.types[n].dtype.real.itemsize for n in buffers]
    sizes += [e.dtype.real.itemsize for e in exprs if e.kind == "apply" and e.dtype.kind != "bool"]
    for s in stages:
        for r in s.reduces:
            turns = s.most_turns
            sizes.append(r.dtype.real.itemsize if not r.op.startswith("arg") or across
                         else 4 if turns is not None and turns < 1 << 31 else 8)
    return sizes


def _jumps(e: Expr, kernel: Kernel, across: bool) -> bool:
    axes = [kernel.axes[-1]] if across and kernel.axes else \
        [s.axes[-1] for s in _stages_in(kernel)]
    return any(e.index[0].coefficient(a) not in (0, 1, -1) for a in axes if a in e.axes)


def _element_ns(kernel: Kernel, lanes: int) -> float:
    """A rough time for one element: arithmetic in lanes, or memory, whichever is slower."""
    flops = sum(map(expr_cost, kernel.exprs)) + len(kernel.reduces)
    loads = sum(kernel.types[e.what].dtype.itemsize for e in kernel.exprs
                if e.kind == "load" and e.axes)
    stores = sum(kernel.types[w.buffer].dtype.itemsize for s in kernel.stages for w in s.stores)
    return max(flops * 0.5 / max(1, min(lanes, 16)), (loads + stores) * 0.06, 0.05)


def _inner_turns(kernel: Kernel) -> float:
    total = 0.0
    for s in kernel.stages:
        turns = 1.0
        for a in s.axes:
            turns *= max(1, _known(a.extent))
        total = max(total, turns)
    return total


def _block(kernel: Kernel, lanes: int, ns: float) -> int:
    """Elements of the last row axis in a unit: enough to be worth a turn of the outer loop."""
    if not kernel.axes:
        return 1
    width = _known(kernel.axes[-1].extent)
    rows = 1
    for a in kernel.axes[:-1]:
        rows *= max(1, _known(a.extent))
    wanted = max(lanes, int(GRAIN_NS / 2 / max(ns, 0.01)))
    if rows >= 64 and width <= 4 * wanted:
        return max(1, width) if not isinstance(kernel.axes[-1].extent, Size) else 1 << 30
    return max(lanes, wanted // lanes * lanes)


def _sweeps(kernel: Kernel) -> bool:
    """Whether columns are wide and far apart: then rows are read whole."""
    stages = _stages_in(kernel)
    if not stages or kernel.scratch or kernel.symbols or not kernel.axes:
        return False
    v = kernel.axes[-1]
    touched = _memory(kernel, stages)
    far = any(abs(c) >= 512 for ix in touched for s in stages for a in s.axes
              if isinstance(c := ix.coefficient(a), int) and ix.coefficient(v) == 1)
    turns = min(_known(s.axes[-1].extent) for s in stages)
    stores = any(s.stores for s in stages)
    return far and turns >= 16 and _known(v.extent) >= 512 and not stores


def _sweep_block(kernel: Kernel, lanes: int) -> int:
    """Columns in a unit: accumulators that fit the first cache, and enough units for the cores."""
    width = _known(kernel.axes[-1].extent)
    rows = 1
    for a in kernel.axes[:-1]:
        rows *= max(1, _known(a.extent))
    block = 2048 if rows * width >= 4096 else max(256, width // 2)
    if width >= LONG_ROW and len(kernel.reduces) <= 2:
        block = 8192        # long runs count for more than the first cache where memory is read
    return max(lanes, min(block, width) // lanes * lanes)


def _streams(kernel: Kernel, lanes: int, target: Target) -> bool:
    """Whether results are too large for any cache to keep, and lie so that they can be streamed."""
    if kernel.symbols or any(s.axes or s.checks for s in kernel.stages) or not kernel.axes \
            or kernel.updates or kernel.shares:
        return False
    v = kernel.axes[-1]
    for s in kernel.stages:
        for w in s.stores:
            t = kernel.types[w.buffer]
            if t.dtype.kind not in ("int", "uint", "float") or t.dtype.name in ("bf16", "f16"):
                return False
            whole = all(isinstance(c := w.index[0].coefficient(a), int)
                        and c * t.dtype.itemsize % 64 == 0 for a in kernel.axes[:-1])
            large = isinstance(t.nbytes, int) and t.nbytes >= STREAM_CACHES * target.l3_bytes
            if not (large and whole and w.index[0].coefficient(v) == 1
                    and w.index[0].const == 0 and lanes * t.dtype.itemsize % 64 == 0):
                return False
    return True


def _units(kernel: Kernel, across: bool, block: int) -> int:
    units = 1
    for a in (kernel.axes[:-1] if across else kernel.axes):
        units *= _known(a.extent)
    if across and kernel.axes:
        units *= ceil(_known(kernel.axes[-1].extent) / max(block, 1))
    return units
