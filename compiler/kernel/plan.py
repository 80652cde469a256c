"""Memory planning: temporaries share one arena, by the steps between which they live."""

from __future__ import annotations

from dataclasses import replace

from weft.compiler.kernel.ir import Buffer, Program
from weft.compiler.types import Dim

__all__ = ["ALIGN", "plan_memory"]

ALIGN = 64


def _rounded(n: Dim) -> Dim:
    return (n + ALIGN - 1) // ALIGN * ALIGN if isinstance(n, int) else n + ALIGN


def lifetimes(program: Program) -> dict[str, tuple[int, int]]:
    """First and last step that touches each temporary."""
    out: dict[str, tuple[int, int]] = {}
    temps = {b.name for b in program.buffers if b.kind == "temp"}
    for i, step in enumerate(program.steps):
        for name in step.buffers:
            if name in temps:
                out[name] = (out.get(name, (i, i))[0], i)
    return out


def plan_memory(program: Program) -> Program:
    """The program with an arena offset for every temporary.

    Largest first, each at the lowest offset free during its life. Temporaries of symbolic size
    come behind, one after another (their offsets are polynomials, rounded up to keep alignment).
    """
    life = lifetimes(program)
    temps = [b for b in program.buffers if b.name in life]
    fixed = sorted((b for b in temps if isinstance(b.type.nbytes, int)),
                   key=lambda b: (-_size(b), life[b.name]))
    placed: list[tuple[int, int, Buffer]] = []
    for b in fixed:
        placed.append((*_lowest_gap(b, placed, life), b))
    top: Dim = max((end for _, end, _ in placed), default=0)
    offsets: dict[str, Dim] = {b.name: start for start, _, b in placed}
    for b in temps:
        if b.name not in offsets:
            offsets[b.name] = top
            top = top + (b.type.nbytes + ALIGN) * 1
    if not isinstance(top, int):
        offsets, top = _aligned_symbolic(program, temps, offsets, placed)
    buffers = tuple(replace(b, offset=offsets[b.name]) if b.name in offsets else b
                    for b in program.buffers if b.kind != "temp" or b.name in life)
    return replace(program, buffers=buffers, arena=top)


def _aligned_symbolic(program: Program, temps: list[Buffer], offsets: dict[str, Dim],
                      placed: list[tuple[int, int, Buffer]]) -> tuple[dict[str, Dim], Dim]:
    """Symbolic sizes are taken times ALIGN elements' bytes, which keeps every offset aligned."""
    top: Dim = max((end for _, end, _ in placed), default=0)
    out = {b.name: offsets[b.name] for _, _, b in placed}
    for b in temps:
        if b.name not in out:
            out[b.name] = top
            top = top + b.type.size * ALIGN if b.type.dtype.itemsize * 4 >= ALIGN \
                else top + _padded(b)
    return out, top


def _padded(b: Buffer) -> Dim:
    # nbytes rounded up to 64 is not a polynomial; 64-byte alignment of what follows needs a
    # multiple of 64, and the least polynomial that is one for every size is size * 64
    return b.type.size * ALIGN


def _size(b: Buffer) -> int:
    n = _rounded(b.type.nbytes)
    assert isinstance(n, int)
    return max(n, ALIGN)


def _lowest_gap(b: Buffer, placed: list[tuple[int, int, Buffer]],
                life: dict[str, tuple[int, int]]) -> tuple[int, int]:
    lo, hi = life[b.name]
    busy = sorted((start, end) for start, end, other in placed
                  if life[other.name][0] <= hi and lo <= life[other.name][1])
    at = 0
    for start, end in busy:
        if at + _size(b) <= start:
            break
        at = max(at, end)
    return at, at + _size(b)
