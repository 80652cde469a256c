"""Which steps of a program wait for which, so that those that do not can run side by side.

In a CUDA graph, steps lie in a few lanes. A step waits for those before it in its own lane, and for
those in other lanes that write what it reads or overwrites, or read what it overwrites. Memory
decides: temporaries that lie in the same place of the arena one after another are one.
"""

from __future__ import annotations

from collections.abc import Sequence

from weft.compiler.kernel.ir import Buffer, Program, Step
from weft.compiler.kernel.plan import plan_memory
from weft.compiler.lazy_dataclass import dataclass

__all__ = ["Place", "lanes", "spread"]

LANES = 6
SPREAD = 1 << 30        # bytes for temporaries, up to which they get memory of their own


@dataclass(frozen=True)
class Place:
    """Where a step goes: its lane, and the steps of other lanes that it waits for, by number.
    `told` says whether one of these waits for it."""

    lane: int
    after: tuple[int, ...] = ()
    told: bool = False


def spread(program: Program) -> Program:
    """The program with temporaries that share no memory, so that nothing waits for it, unless that
    would take too much."""
    apart = plan_memory(program, slack=len(program.steps))
    return apart if isinstance(apart.arena, int) and apart.arena <= SPREAD else program


def lanes(program: Program, count: int = LANES) -> tuple[Place, ...]:
    """A place for each step; all in one lane where sizes are not known."""
    steps = program.steps
    if not all(b.type.is_static and isinstance(b.offset, int) for b in program.buffers):
        return (Place(0),) * len(steps)
    touched = [_touched(s, program.by_name) for s in steps]
    last = [-1] * count                             # the step that each lane ends with
    # for each step, the last one of each lane that is done when it begins
    known: list[list[int]] = []
    chosen: list[int] = []
    after: list[tuple[int, ...]] = []
    for i, (reads, writes) in enumerate(touched):
        needs = [j for j in range(i) if _meet(touched[j][1], (*reads, *writes))
                 or _meet(touched[j][0], writes)]
        lane = _lane(needs, last)
        seen = list(known[last[lane]]) if last[lane] >= 0 else [-1] * count
        seen[lane] = max(seen[lane], last[lane])
        waits = []
        for j in reversed(needs):                   # later ones first: they know of earlier ones
            if j > seen[chosen[j]]:
                waits.append(j)
                seen = [max(a, b) for a, b in zip(seen, known[j])]
                seen[chosen[j]] = max(seen[chosen[j]], j)
        known.append(seen)
        chosen.append(lane)
        after.append(tuple(sorted(waits)))
        last[lane] = i
    told = {j for waits in after for j in waits}
    return tuple(Place(lane, waits, i in told)
                 for i, (lane, waits) in enumerate(zip(chosen, after)))


def _lane(needs: Sequence[int], last: Sequence[int]) -> int:
    """The lane that ends with what is waited for, or one that is free, or the one idle longest."""
    for j in reversed(needs):
        if j in last:
            return last.index(j)
    return min(range(len(last)), key=last.__getitem__)


Region = tuple[str, int, int]


def _touched(step: Step, buffers: dict[str, Buffer]) -> tuple[list[Region], list[Region]]:
    """The memory that a step reads, and that it writes: a space, and from where to where."""
    outputs = set(step.kernel.outputs)
    reads: list[Region] = []
    writes: list[Region] = []
    for (inner, _), name in zip(step.kernel.buffers, step.buffers):
        (writes if inner in outputs else reads).append(_region(buffers[name]))
        if inner in outputs:
            reads.append(_region(buffers[name]))    # updated in place, or in part
    if step.scratch:
        writes.append(_region(buffers[step.scratch]))
    return reads, writes


def _region(buffer: Buffer) -> Region:
    size = buffer.type.nbytes
    assert isinstance(size, int) and isinstance(buffer.offset, int)
    if buffer.kind == "temp":
        return "arena", buffer.offset, buffer.offset + max(size, 1)
    return buffer.name, 0, 1


def _meet(some: Sequence[Region], others: Sequence[Region]) -> bool:
    return any(a == b and low < high2 and low2 < high
               for a, low, high in some for b, low2, high2 in others)
