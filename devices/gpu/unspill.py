"""Scratch rows computed again: for rows that are too long for a team's registers."""

from __future__ import annotations

from weft.compiler.kernel.expr import Expr
from weft.compiler.kernel.index import Atom, Index, Value, as_index
from weft.compiler.kernel.ir import Kernel, Stage
from weft.compiler.lazy_dataclass import replace

__all__ = ["without_scratch"]


def without_scratch(kernel: Kernel) -> Kernel:
    """The kernel with the value in place of each load of a scratch row.

    A scratch row is stored and loaded at the point of the stage's own axes, so that its loads and
    the stored value are of one point.
    """
    scratch = {n for n, _ in kernel.scratch}
    stored = {s.buffer: s.value for stage in kernel.stages for s in stage.stores
              if s.buffer in scratch}
    swap = _Swap(stored)
    return replace(kernel, stages=tuple(swap.stage(s, scratch) for s in kernel.stages), scratch=())


class _Swap:
    def __init__(self, stored: dict[str, Expr]) -> None:
        self._stored = stored
        self._done: dict[Expr, Expr] = {}

    def expr(self, e: Expr) -> Expr:
        """The same value without scratch rows."""
        if e not in self._done:
            if e.kind == "load" and e.what in self._stored:
                self._done[e] = self.expr(self._stored[e.what])
            else:
                self._done[e] = replace(e, args=tuple(map(self.expr, e.args)),
                                        index=tuple(ix.substitute(self._atom) for ix in e.index))
        return self._done[e]

    def _atom(self, atom: Atom) -> Index | None:
        return as_index(Value(self.expr(atom.expr), atom.below)) \
            if isinstance(atom, Value) else None

    def stage(self, s: Stage, scratch: set[str]) -> Stage:
        """A stage without scratch rows."""
        stores = tuple(replace(w, value=self.expr(w.value)) for w in s.stores
                       if w.buffer not in scratch)
        return replace(s, reduces=tuple(replace(r, value=self.expr(r.value)) for r in s.reduces),
                       stores=stores)
