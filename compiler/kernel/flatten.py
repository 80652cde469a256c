"""Flattening: buffers become one-dimensional and axes that move together become one axis.

A code generator wants long inner loops over plain offsets. After this pass every load and store
has a single index, the element offset, and neighbouring axes over which all offsets are affine in
the same proportion are merged: an elementwise kernel over contiguous arrays has one axis.
"""

from __future__ import annotations

from itertools import pairwise

from weft.compiler.kernel.expr import Expr, index_values
from weft.compiler.kernel.index import (
    Atom,
    Axis,
    Index,
    Quotient,
    Remainder,
    Value,
    as_index,
    linearize,
)
from weft.compiler.kernel.ir import Kernel, Stage, Store
from weft.compiler.lazy_dataclass import replace
from weft.compiler.types import Dim, TensorType

__all__ = ["flatten"]


def flatten(kernel: Kernel) -> Kernel:
    """The same kernel with linear offsets and as few axes as these allow."""
    flat = _Linear(kernel).kernel()
    while True:
        merged = _merge_some(flat)
        if merged is None:
            return flat
        flat = merged


class _Linear:
    def __init__(self, kernel: Kernel) -> None:
        self.source = kernel
        self._memo: dict[Expr, Expr] = {}

    def kernel(self) -> Kernel:
        k = self.source
        flat = [tuple((n, TensorType((t.size,), t.dtype)) for n, t in group)
                for group in (k.buffers, k.scratch)]
        return replace(k, stages=tuple(map(self.stage, k.stages)), buffers=flat[0],
                       scratch=flat[1])

    def stage(self, s: Stage) -> Stage:
        return replace(s, reduces=tuple(replace(r, value=self.expr(r.value)) for r in s.reduces),
                       stores=tuple(map(self.store, s.stores)),
                       checks=tuple(replace(c, value=self.expr(c.value)) for c in s.checks))

    def store(self, w: Store) -> Store:
        return replace(w, index=(self.offset(w.buffer, w.index),), value=self.expr(w.value),
                       guard=None if w.guard is None else self.expr(w.guard))

    def offset(self, buffer: str, index: tuple[Index, ...]) -> Index:
        inner = tuple(ix.substitute(self.atom) if index_values(ix) else ix for ix in index)
        return linearize(inner, self.source.types[buffer].shape)

    def atom(self, atom: Atom) -> Index | None:
        return as_index(Value(self.expr(atom.expr), atom.below)) \
            if isinstance(atom, Value) else None

    def expr(self, e: Expr) -> Expr:
        found = self._memo.get(e)
        if found is None:
            args = tuple(map(self.expr, e.args))
            if e.kind == "load":
                found = replace(e, args=args, index=(self.offset(e.what, e.index),))
            elif e.kind == "index":
                found = replace(e, index=(e.index[0].substitute(self.atom),))
            else:
                found = replace(e, args=args) if args != e.args else e
            self._memo[e] = found
        return found


def _indices(kernel: Kernel) -> list[Index]:
    out = [ix for e in kernel.exprs for ix in e.index]
    out += [ix for s in kernel.stages for w in s.stores for ix in w.index]
    out += [a.extent for a in (*kernel.axes, *(x for s in kernel.stages for x in s.axes))
            if isinstance(a.extent, Index)]
    return out


def _merge_some(kernel: Kernel) -> Kernel | None:
    """The kernel with one more pair of neighbouring axes merged, None if none can be."""
    indices = _indices(kernel)
    ordered = {a for s in kernel.stages for a in s.ordered}
    groups = [kernel.axes, *dict.fromkeys(s.axes for s in kernel.stages)]
    for group in groups:
        for outer, inner in pairwise(group):
            if (outer in ordered) == (inner in ordered) and _move_together(outer, inner, indices):
                return _merged(kernel, outer, inner)
    return None


def _move_together(outer: Axis, inner: Axis, indices: list[Index]) -> bool:
    if isinstance(outer.extent, Index) or isinstance(inner.extent, Index):
        return False
    extent = inner.extent
    return all(_in_proportion(ix, outer, inner, extent) for ix in indices)


def _in_proportion(ix: Index, outer: Axis, inner: Axis, extent: Dim) -> bool:
    """Whether only extent * outer + inner takes part, also inside quotients and remainders."""
    apart = []
    for atom, _ in ix.terms:
        if isinstance(atom, (Quotient, Remainder)):
            if not _in_proportion(atom.of, outer, inner, extent):
                return False
        else:
            apart.append(atom)
    plain = ix if len(apart) == len(ix.terms) else Index(
        tuple(t for t in ix.terms if t[0] in apart), ix.const)
    a, b = plain.coefficient(outer), plain.coefficient(inner)
    return a is not None and b is not None and a == b * extent


def _merged(kernel: Kernel, outer: Axis, inner: Axis) -> Kernel:
    assert not isinstance(outer.extent, Index) and not isinstance(inner.extent, Index)
    extent: Dim = outer.extent * inner.extent
    merged = Axis(inner.name, extent)
    swap = _Swap(outer, inner, merged)

    def axes(group: tuple[Axis, ...]) -> tuple[Axis, ...]:
        return tuple(merged if a == inner else a for a in group if a != outer)

    stages = tuple(Stage(axes(s.axes), tuple(replace(r, value=swap.expr(r.value))
                                             for r in s.reduces),
                         tuple(map(swap.store, s.stores)),
                         tuple(replace(c, value=swap.expr(c.value)) for c in s.checks),
                         axes(s.ordered))
                   for s in kernel.stages)
    return replace(kernel, axes=axes(kernel.axes), stages=stages)


class _Swap:
    """Replaces outer*extent + inner by the merged axis."""

    def __init__(self, outer: Axis, inner: Axis, merged: Axis) -> None:
        self.outer, self.inner, self.merged = outer, inner, merged
        self._memo: dict[Expr, Expr] = {}

    def atom(self, atom: Atom) -> Index | None:
        if atom == self.outer:
            return Index()
        if atom == self.inner:
            return as_index(self.merged)
        if isinstance(atom, Value):
            return as_index(Value(self.expr(atom.expr), atom.below))
        return None

    def index(self, index: tuple[Index, ...]) -> tuple[Index, ...]:
        return tuple(ix.substitute(self.atom) for ix in index)

    def store(self, w: Store) -> Store:
        return replace(w, index=self.index(w.index), value=self.expr(w.value),
                       guard=None if w.guard is None else self.expr(w.guard))

    def expr(self, e: Expr) -> Expr:
        found = self._memo.get(e)
        if found is None:
            found = self._memo[e] = replace(e, args=tuple(map(self.expr, e.args)),
                                            index=self.index(e.index))
        return found
