"""Updates at few rows, shared among threads.

    for i in 4096, j in 512 in order of i: out[<at i>, j] += u[i, j]
    ->  for c in 2: for i in 4096, j in 256 in order of i: out[<at i>, 256*c + j] += …

Turns of an ordered axis must follow one another, since they may write to the same places. Those of
a last axis that is not ordered never do, so that each thread may take a part of that one.
"""

from __future__ import annotations

from math import prod

from weft.compiler.kernel.index import Axis, as_index, smaller
from weft.compiler.kernel.ir import Kernel, Program, Step
from weft.compiler.kernel.plan import change_nested
from weft.compiler.kernel.rename import Substitution, canonical
from weft.compiler.lazy_dataclass import replace
from weft.compiler.target import Target

__all__ = ["spread_updates"]

LEAST_BYTES = 256       # of each row in a part: runs shorter than this waste cache lines
LEAST_TURNS = 1 << 15   # in all, from which on several threads are worth waking


def spread_updates(program: Program, target: Target) -> Program:
    """The program with its large updates in as many parts as threads can take side by side."""
    program = change_nested(program, lambda p: spread_updates(p, target))
    steps = tuple(_spread(step, target) for step in program.steps)
    changed = any(a is not b for a, b in zip(steps, program.steps))
    return replace(program, steps=steps) if changed else program


def _spread(step: Step, target: Target) -> Step:
    k = step.kernel
    if not isinstance(k, Kernel) or not k.updates:
        return step
    stage = k.stages[-1]
    rows, last = k.rows, stage.axes[-1] if stage.axes else None
    if last is None or last in stage.ordered or not isinstance(rows, int) \
            or not isinstance(last.extent, int) or rows >= target.threads:
        return step
    turns = prod(a.extent for a in stage.axes if isinstance(a.extent, int)) * rows
    parts = min(target.threads, last.extent * k.types[k.updates].dtype.itemsize // LEAST_BYTES)
    if parts < 2 or turns < LEAST_TURNS:
        return step
    return replace(step, kernel=canonical(_in_parts(k, last, last.extent, parts)))


def _in_parts(k: Kernel, last: Axis, extent: int, parts: int) -> Kernel:
    """The kernel with a row axis of so many parts of the last axis."""
    size = -(-extent // parts)
    part = Axis(f"{last.name}c", -(-extent // size))
    begin = as_index(part) * size
    rest = size if extent % size == 0 else smaller(as_index(size), as_index(extent) - begin)
    inside = Axis(f"{last.name}e", rest)
    swap = Substitution(lambda a: begin + as_index(inside) if a == last else None)
    stages = tuple(swap.stage(s, tuple(inside if a == last else a for a in s.axes))
                   for s in k.stages)
    return replace(k, axes=(*k.axes, part), stages=stages)
