"""Kernels with other names in them: buffers and axes replaced in all expressions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import reduce

from weft.compiler.kernel.construct import expr_cost
from weft.compiler.kernel.expr import Expr, walk
from weft.compiler.kernel.index import Atom, Axis, Index, Value, as_index
from weft.compiler.kernel.ir import Check, Kernel, Reduce, Stage, Store
from weft.compiler.lazy_dataclass import replace
from weft.compiler.types import Dim, Size

__all__ = ["Substitution", "axis_name", "canonical", "known", "traffic", "work"]


class Substitution:
    """Replaces axes by indices (`axis` gives None for those that stay) and names of buffers."""

    def __init__(self, axis: Callable[[Axis], Index | None],
                 buffers: Mapping[str, str] | None = None) -> None:
        self._axis = axis
        self._buffers = buffers or {}
        self._done: dict[Expr, Expr] = {}

    def _atom(self, atom: Atom) -> Index | None:
        if isinstance(atom, Axis):
            return self._axis(atom)
        if isinstance(atom, Value):
            return as_index(Value(self.expr(atom.expr), atom.below))
        return None

    def index(self, index: Index) -> Index:
        """The same index over the new axes."""
        return index.substitute(self._atom)

    def expr(self, e: Expr) -> Expr:
        """The same expression over the new axes and buffers."""
        if e not in self._done:
            what = self._buffers.get(e.what, e.what) if e.kind == "load" else e.what
            self._done[e] = replace(e, what=what, args=tuple(map(self.expr, e.args)),
                                    index=tuple(map(self.index, e.index)))
        return self._done[e]

    def reduce(self, r: Reduce) -> Reduce:
        """The same reduction over the new axes and buffers."""
        return replace(r, value=self.expr(r.value))

    def check(self, c: Check) -> Check:
        """The same check over the new axes and buffers."""
        return replace(c, value=self.expr(c.value))

    def store(self, s: Store) -> Store:
        """The same store over the new axes and buffers."""
        return replace(s, buffer=self._buffers.get(s.buffer, s.buffer),
                       index=tuple(map(self.index, s.index)), value=self.expr(s.value),
                       guard=None if s.guard is None else self.expr(s.guard))

    def stage(self, s: Stage, axes: tuple[Axis, ...]) -> Stage:
        """The same stage, with these axes, over the new axes and buffers."""
        ordered = {b for a in s.ordered for b in self.index(as_index(a)).axes}
        return Stage(axes, tuple(map(self.reduce, s.reduces)), tuple(map(self.store, s.stores)),
                     tuple(map(self.check, s.checks)), tuple(a for a in axes if a in ordered))


def canonical(kernel: Kernel) -> Kernel:
    """Buffers and axes renamed by position, so that equal kernels are equal text."""
    names = {n: f"b{i}" for i, (n, _) in enumerate(kernel.buffers)}
    letters: dict[Axis, Axis] = {}
    swap = Substitution(lambda a: as_index(letters[a]), names)
    for a in (*kernel.axes, *(a for s in kernel.stages for a in s.axes)):
        if a not in letters:            # the extent may name axes before this one
            extent = swap.index(a.extent) if isinstance(a.extent, Index) else a.extent
            letters[a] = Axis(axis_name(len(letters)), extent)
    stages = tuple(swap.stage(s, tuple(letters[a] for a in s.axes)) for s in kernel.stages)
    return Kernel(tuple(letters[a] for a in kernel.axes), stages,
                  tuple((names[n], t) for n, t in kernel.buffers),
                  tuple(names[n] for n in kernel.outputs), kernel.scratch,
                  names.get(kernel.updates, ""))


def axis_name(i: int) -> str:
    """The name of a canonical kernel's axis number i: i, j, k, …"""
    return "ijklmnopqrst"[i] if i < 12 else f"i{i}"


# ---- figures for explain; symbolic sizes count as 1

def known(d: Dim) -> int:
    """A size, its unknowns taken as 1."""
    return d.evaluate(dict.fromkeys(d.symbols, 1)) if isinstance(d, Size) else d


def work(kernel: Kernel) -> float:
    """Floating-point operations of a kernel."""
    total = 0.0
    for stage in kernel.stages:
        cost = sum(map(expr_cost, walk(*stage.roots))) + len(stage.reduces)
        total += reduce(float.__mul__, map(_turns, (*kernel.axes, *stage.axes)), float(cost))
    return total


def _turns(axis: Axis) -> float:
    if isinstance(axis.extent, Index):
        return float(axis.extent.bounds[1]) if axis.extent.bounds else 1.0
    return float(known(axis.extent))


def traffic(kernel: Kernel) -> float:
    """Bytes of the arrays that a kernel reads and writes."""
    return float(sum(known(t.nbytes) for _, t in kernel.buffers))
