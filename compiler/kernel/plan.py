"""Memory planning: temporaries share one arena, by the steps between which they live."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import field
from itertools import count
from typing import TypeAlias

from weft.compiler.kernel.ir import Buffer, Program
from weft.compiler.kernel.nested import ALIGN, Branch, Loop, map_programs
from weft.compiler.lazy_dataclass import dataclass, replace
from weft.compiler.types import DTYPES, Dim, Size, TensorType

__all__ = ["ALIGN", "change_nested", "lifetimes", "plan_memory"]

Life: TypeAlias = dict[str, tuple[int, int]]


def lifetimes(program: Program) -> Life:
    """First and last step that touches each temporary."""
    out: Life = {}
    temps = {b.name for b in program.buffers if b.kind == "temp"}
    for i, step in enumerate(program.steps):
        for name in (*step.buffers, step.scratch):
            if name in temps:
                out[name] = (out.get(name, (i, i))[0], i)
    return out


def plan_memory(program: Program) -> Program:
    """The program with an arena offset for every temporary; those that no step uses are dropped.

    Offsets of temporaries of known size are multiples of ALIGN. Those of symbolic size are
    multiples of the element size, with ALIGN bytes to spare behind them, so that the code that
    computes their address may round it up to ALIGN.
    """
    program = _with_scratch(program)
    life = lifetimes(program)
    temps = [b for b in program.buffers if b.name in life]
    offsets: dict[str, Dim] = {}
    top = _place_fixed([b for b in temps if b.type.is_static], life, offsets)
    arena = _place_symbolic([b for b in temps if not b.type.is_static], life, offsets, top)
    buffers = tuple(replace(b, offset=offsets.get(b.name, b.offset)) for b in program.buffers
                    if b.kind != "temp" or b.name in life)
    return replace(program, buffers=buffers, arena=arena)


def change_nested(program: Program, change: Callable[[Program], Program]) -> Program:
    """The program with the programs in its steps changed, and planned anew if any was.

    Another body may need other scratch memory: of a loop, also depending on whether the kernels
    can write carries where they read them. The same object if nothing changed.
    """
    changed = map_programs(program, change)
    return program if changed is program else plan_memory(changed)


def _with_scratch(program: Program) -> Program:
    """The program with a temporary for each step that runs programs which have temporaries."""
    if not any(isinstance(s.kernel, (Branch, Loop)) for s in program.steps):
        return program
    buffers = {b.name: b for b in program.buffers}
    steps = []
    for step in program.steps:
        if isinstance(step.kernel, (Branch, Loop)):
            buffers.pop(step.scratch, None)
            need = step.kernel.scratch
            name = "" if need == 0 else step.scratch or _fresh(f"{step.name}.scratch", buffers)
            if name:
                buffers[name] = Buffer(name, TensorType((need,), DTYPES["u8"]), "temp")
            step = replace(step, scratch=name)
        steps.append(step)
    return replace(program, steps=tuple(steps), buffers=tuple(buffers.values()))


def _fresh(name: str, taken: Collection[str]) -> str:
    return next(n for i in count() if (n := f"{name}{i or ''}") not in taken)


def _meet(life: Life, name: str, others: Iterable[str]) -> bool:
    """Whether a temporary lives at the same time as one of the others."""
    lo, hi = life[name]
    return any(life[o][0] <= hi and lo <= life[o][1] for o in others)


# ---- known sizes: largest first, each at the lowest offset that is free while it lives

def _place_fixed(temps: list[Buffer], life: Life, offsets: dict[str, Dim]) -> int:
    placed: list[tuple[int, int, str]] = []
    for b in sorted(temps, key=lambda b: (-_rounded(b), life[b.name])):
        busy = sorted(p for p in placed if _meet(life, b.name, (p[2],)))
        at = _lowest_gap([(lo, hi) for lo, hi, _ in busy], _rounded(b))
        placed.append((at, at + _rounded(b), b.name))
        offsets[b.name] = at
    return max((end for _, end, _ in placed), default=0)


def _rounded(b: Buffer) -> int:
    assert isinstance(b.type.nbytes, int)
    return max(ALIGN, -(-b.type.nbytes // ALIGN) * ALIGN)


def _lowest_gap(busy: list[tuple[int, int]], size: int) -> int:
    at = 0
    for lo, hi in busy:
        if at + size <= lo:
            break
        at = max(at, hi)
    return at


# ---- symbolic sizes: slots one behind another, shared where one size is known to hold the other

@dataclass
class _Slot:
    itemsize: int
    nbytes: Dim
    members: list[str] = field(default_factory=list)


def _place_symbolic(temps: list[Buffer], life: Life, offsets: dict[str, Dim], top: Dim) -> Dim:
    slots: list[_Slot] = []
    for b in sorted(temps, key=lambda b: life[b.name]):
        slot = next((s for s in slots if _fits(b, s) and not _meet(life, b.name, s.members)), None)
        if slot is None:
            slot = _Slot(b.type.dtype.itemsize, b.type.nbytes)
            slots.append(slot)
        slot.nbytes = b.type.nbytes if _covers(b.type.nbytes, slot.nbytes) else slot.nbytes
        slot.members.append(b.name)
    # largest elements first: what stands before a slot is then a multiple of its element size
    for slot in sorted(slots, key=lambda s: -s.itemsize):
        offsets.update(dict.fromkeys(slot.members, top))
        top = top + slot.nbytes + ALIGN
    return top


def _fits(b: Buffer, slot: _Slot) -> bool:
    n = b.type.nbytes
    return b.type.dtype.itemsize == slot.itemsize and (
        _covers(slot.nbytes, n) or _covers(n, slot.nbytes))


def _covers(a: Dim, b: Dim) -> bool:
    """Whether a >= b for all values of the unknowns, which are at least 0."""
    difference = a - b
    if isinstance(difference, Size):
        return all(c >= 0 for _, c in difference.terms)
    return difference >= 0
