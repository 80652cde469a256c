"""Which steps of a program wait for which, so that those that do not can run side by side.

In a CUDA graph, steps lie in a few lanes. A step waits for those before it in its own lane, and for
those in other lanes that write what it reads or overwrites, or read what it overwrites. Memory
decides: temporaries that lie in the same place of the arena one after another are one.
"""

from __future__ import annotations

from collections.abc import Sequence

from weft.compiler.kernel.ir import Buffer, Program, Step
from weft.compiler.kernel.nested import ALIGN
from weft.compiler.lazy_dataclass import dataclass, replace

__all__ = ["Place", "lanes", "spread", "touched"]

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
    at, places = 0, {}
    for b in program.buffers:
        if b.kind == "temp":
            if not isinstance(b.type.nbytes, int):
                return program
            places[b.name] = at
            at += -(-b.type.nbytes // ALIGN) * ALIGN
    if at > SPREAD:
        return program
    buffers = tuple(replace(b, offset=places.get(b.name, b.offset)) for b in program.buffers)
    return replace(program, buffers=buffers, arena=at)


def lanes(program: Program, count: int = LANES) -> tuple[Place, ...]:
    """A place for each step; all in one lane where sizes are not known."""
    steps = program.steps
    if not all(b.type.is_static and isinstance(b.offset, int) for b in program.buffers):
        return (Place(0),) * len(steps)
    shared = _shared(program.buffers)
    writer: dict[str, int] = {}                     # of each buffer, the last step that writes it
    readers: dict[str, list[int]] = {}              # and those that have read it since
    last = [-1] * count                             # the step that each lane ends with
    # for each step, the last one of each lane that is done when it begins
    known: list[list[int]] = []
    chosen: list[int] = []
    after: list[tuple[int, ...]] = []
    for i, (reads, writes) in enumerate(map(touched, steps)):
        needs = {writer[n] for name in (*reads, *writes) for n in shared[name] if n in writer}
        needs.update(j for name in writes for n in shared[name] for j in readers.get(n, ()))
        lane = _lane(sorted(needs), last)
        seen = list(known[last[lane]]) if last[lane] >= 0 else [-1] * count
        seen[lane] = max(seen[lane], last[lane])
        waits = []
        for j in sorted(needs, reverse=True):       # later ones first: they know of earlier ones
            if j > seen[chosen[j]]:
                waits.append(j)
                seen = [max(a, b) for a, b in zip(seen, known[j])]
                seen[chosen[j]] = max(seen[chosen[j]], j)
        known.append(seen)
        chosen.append(lane)
        after.append(tuple(sorted(waits)))
        last[lane] = i
        for name in reads:
            readers.setdefault(name, []).append(i)
        for name in writes:
            writer[name], readers[name] = i, []
    told = {j for waits in after for j in waits}
    return tuple(Place(lane, waits, i in told)
                 for i, (lane, waits) in enumerate(zip(chosen, after)))


def _lane(needs: Sequence[int], last: Sequence[int]) -> int:
    """The lane that ends with what is waited for, or one that is free, or the one idle longest."""
    for j in reversed(needs):
        if j in last:
            return last.index(j)
    return min(range(len(last)), key=last.__getitem__)


def touched(step: Step) -> tuple[list[str], list[str]]:
    """The buffers that a step reads, and those that it writes, perhaps in part or in place."""
    outputs = set(step.kernel.outputs)
    reads: list[str] = []
    writes = [step.scratch] if step.scratch else []
    for (inner, _), name in zip(step.kernel.buffers, step.buffers):
        (writes if inner in outputs else reads).append(name)
    return reads, writes


def _shared(buffers: Sequence[Buffer]) -> dict[str, list[str]]:
    """For each buffer, those that lie in the same memory, itself included."""
    out = {b.name: [b.name] for b in buffers}
    placed = sorted((_span(b), b.name) for b in buffers if b.kind == "temp")
    open_: list[tuple[int, str]] = []               # those that end behind where the next begins
    for (low, high), name in placed:
        open_ = [(end, other) for end, other in open_ if end > low]
        for _, other in open_:
            out[name].append(other)
            out[other].append(name)
        open_.append((high, name))
    return out


def _span(buffer: Buffer) -> tuple[int, int]:
    size = buffer.type.nbytes
    assert isinstance(size, int) and isinstance(buffer.offset, int)
    return buffer.offset, buffer.offset + max(size, 1)
