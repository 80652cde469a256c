"""Elementwise kernels with cases, such as concatenations, cut into pieces without cases.

    out[i] = a[i] if i < 5 else b[i - 5]   ->   out[i] = a[i] for i < 5;  out[i + 5] = b[i]

Each piece is a plain loop, which reads and writes memory at full speed; the selection and the
guards of its loads are decided while compiling.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from weft.compiler.kernel.expr import Expr, walk
from weft.compiler.kernel.index import Axis, as_index
from weft.compiler.kernel.ir import Kernel, Program, Stage, Step
from weft.compiler.kernel.plan import change_nested
from weft.compiler.kernel.rename import Substitution, canonical, traffic, work
from weft.compiler.lazy_dataclass import replace
from weft.compiler.types import DTYPES

__all__ = ["one_piece", "plain", "split_pieces"]

MOST_PIECES = 6
LEAST_ELEMENTS = 1 << 14    # in a small kernel the cases cost less than more kernels do
_BOOL = DTYPES["bool"]


def split_pieces(program: Program) -> Program:
    """The program with its large case-by-case kernels done piece by piece."""
    program = change_nested(program, split_pieces)
    steps = [piece for step in program.steps for piece in _pieces(step)]
    return program if len(steps) == len(program.steps) else replace(program, steps=tuple(steps))


def _pieces(step: Step) -> list[Step]:
    k = step.kernel
    if not isinstance(k, Kernel) or not plain(k):
        return [step]
    cut = _best_cut(k)
    if cut is None:
        return [step]
    axis, at = cut
    return [replace(step, kernel=canonical(piece), name=f"{step.name}_p{i}", flops=work(piece),
                    nbytes=traffic(piece) / (len(at) - 1),
                    buffers=tuple(b for b, (n, _) in zip(step.buffers, k.buffers)
                                  if n in piece.types))
            for i, (lo, hi) in enumerate(pairwise(at))
            for piece in (one_piece(k, axis, lo, hi),)]


def plain(k: Kernel) -> bool:
    """Whether the kernel is elementwise, large, and of known size."""
    return (len(k.stages) == 1 and not k.stages[0].axes and not k.stages[0].reduces
            and not k.stages[0].checks and isinstance(k.rows, int) and k.rows >= LEAST_ELEMENTS
            and not any(s.combine or s.guard for s in k.stages[0].stores)
            and all(isinstance(a.extent, int) for a in k.axes))


def _best_cut(k: Kernel) -> tuple[Axis, list[int]] | None:
    """The axis along which cases change, and the points where they do, ends included."""
    points: dict[Axis, set[int]] = {}
    for e in k.exprs:
        found = _edge(e)
        if found is not None:
            axis, at = found
            if isinstance(axis.extent, int) and 0 < at < axis.extent:
                points.setdefault(axis, set()).add(at)
    for axis in k.axes:                 # the outermost one gives pieces with the longest loops
        if axis in points and len(points[axis]) < MOST_PIECES:
            assert isinstance(axis.extent, int)
            return axis, [0, *sorted(points[axis]), axis.extent]
    return None


def _edge(e: Expr) -> tuple[Axis, int] | None:
    """The axis, and its first value on the other side, of a condition such as `i - 5 < 0`."""
    if e.kind != "apply" or e.what not in ("lt", "ge") or e.args[0].kind != "index":
        return None
    ix, zero = e.args[0].index[0], e.args[1]
    if zero.kind != "const" or zero.what != 0 or len(ix.terms) != 1:
        return None
    (atom, c), = ix.terms
    if not isinstance(atom, Axis) or not isinstance(ix.const, int):
        return None
    return (atom, -ix.const) if c == 1 else (atom, ix.const + 1) if c == -1 else None


def one_piece(k: Kernel, axis: Axis, lo: int, hi: int) -> Kernel:
    """The kernel for lo <= axis < hi alone."""
    part = Axis(axis.name, hi - lo)
    moved = Substitution(lambda a: as_index(part) + lo if a == axis else None)
    decided = _Decided()
    stores = tuple(replace(s, value=decided.expr(s.value))
                   for s in map(moved.store, k.stages[0].stores))
    read = {e.what for e in walk(*Stage((), (), stores).roots) if e.kind == "load"}
    buffers = tuple((n, t) for n, t in k.buffers if n in read or n in k.outputs)
    axes = tuple(part if a == axis else a for a in k.axes)
    return replace(k, axes=tuple(a for a in axes if a.extent != 1),
                   stages=(Stage((), (), stores),), buffers=buffers)


class _Decided:
    """Rewrites expressions with the conditions that the ranges of axes decide."""

    def __init__(self) -> None:
        self._done: dict[Expr, Expr] = {}

    def expr(self, e: Expr) -> Expr:
        """The same value, simplified."""
        if e not in self._done:
            self._done[e] = self._simplified(e)
        return self._done[e]

    def _simplified(self, e: Expr) -> Expr:
        if e.kind == "apply" and e.what == "select":
            mask = self.expr(e.args[0])
            known = _truth(mask)
            if known is not None:
                return self.expr(e.args[1] if known else e.args[2])
        e = replace(e, args=tuple(map(self.expr, e.args))) if e.args else e
        if e.kind == "load" and e.args and _truth(e.args[0]):
            return replace(e, args=())
        if e.kind != "apply" or e.dtype is not _BOOL:
            return e
        truth = _compared(e)
        if truth is not None:
            return Expr("const", _BOOL, np.bool_(truth))
        if e.what == "and":
            return self._both(e)
        return e

    def _both(self, e: Expr) -> Expr:
        for one, other in (e.args, e.args[::-1]):
            known = _truth(one)
            if known is not None:
                return other if known else one
        return e


def _truth(e: Expr) -> bool | None:
    return bool(e.what) if e.kind == "const" and e.dtype is _BOOL else None


def _compared(e: Expr) -> bool | None:
    """The outcome of a comparison of an index with 0, where its range decides that."""
    if e.what not in ("lt", "ge") or e.args[0].kind != "index" or e.args[1].kind != "const" \
            or e.args[1].what != 0:
        return None
    bounds = e.args[0].index[0].bounds
    if bounds is None:
        return None
    below, above = bounds[1] < 0, bounds[0] >= 0
    return None if not (below or above) else below == (e.what == "lt")
