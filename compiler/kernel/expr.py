"""Scalar expressions of kernels: what one turn of the loops computes.

An `Expr` is a DAG node; equal expressions are one object within a `Kernel`'s construction, because
`Exprs` makes each only once.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

from weft.compiler.kernel.index import Axis, Index, Value
from weft.compiler.lazy_dataclass import dataclass
from weft.compiler.types import DType

__all__ = ["Expr", "Exprs", "walk"]


@dataclass(frozen=True)
class Expr:
    """One scalar value.

    kind      | meaning
    ----------|---------------------------------------------------------------
    `load`    | element `index` of buffer `what`; reads 0 where `args[0]`, if any, is false
    `const`   | the literal `what`, a NumPy scalar
    `index`   | the value of `index[0]`, converted to the dtype
    `apply`   | op `what` of the args
    `acc`     | the result of reduction number `what`
    """

    kind: str
    dtype: DType
    what: Any = None
    args: tuple[Expr, ...] = ()
    index: tuple[Index, ...] = ()

    @cached_property
    def _hash(self) -> int:
        what = (str(self.what.dtype), self.what.tobytes()) if self.kind == "const" else self.what
        return hash((self.kind, self.dtype.name, what, self.args, self.index))

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        return (isinstance(other, Expr) and self._hash == other._hash and self.kind == other.kind
                and self.dtype is other.dtype and _same(self.what, other.what)
                and self.args == other.args and self.index == other.index)

    @cached_property
    def axes(self) -> frozenset[Axis]:
        """The axes on which the value depends directly (reductions' results not counted)."""
        parts = [a.axes for a in self.args] + [i.axes for i in self.index]
        return frozenset().union(*parts) if parts else frozenset()

    @cached_property
    def children(self) -> tuple[Expr, ...]:
        """Sub-expressions: args, then the run-time values inside indices."""
        return self.args + tuple(v.expr for i in self.index for v in index_values(i))

    @cached_property
    def accs(self) -> frozenset[int]:
        """Numbers of the reductions whose results take part."""
        own = frozenset((self.what,)) if self.kind == "acc" else frozenset()
        return own.union(*(c.accs for c in self.children))

    def __repr__(self) -> str:
        if self.kind == "load":
            guard = f" if {self.args[0]}" if self.args else ""
            return f"{self.what}[{', '.join(map(str, self.index))}]{guard}"
        if self.kind == "const":
            return f"{self.what.item()!r}:{self.dtype}"
        if self.kind == "index":
            return f"{self.dtype}({self.index[0]})"
        if self.kind == "acc":
            return f"acc{self.what}"
        return f"{self.what}({', '.join(map(repr, self.args))})" + (
            f":{self.dtype}" if self.what in ("convert", "bitcast") else "")


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, np.generic) and isinstance(b, np.generic):
        return a.dtype == b.dtype and a.tobytes() == b.tobytes()
    return bool(a == b)


def index_values(index: Index) -> list[Value]:
    """The run-time values in an index, also inside quotients and remainders."""
    out: list[Value] = []
    for atom, _ in index.terms:
        if isinstance(atom, Value):
            out.append(atom)
        elif not isinstance(atom, Axis):
            for part in (getattr(atom, n, None) for n in ("of", "a", "b")):
                if isinstance(part, Index):
                    out.extend(index_values(part))
    return out


class Exprs:
    """Makes expressions, each only once."""

    def __init__(self) -> None:
        self._known: dict[Expr, Expr] = {}

    def _make(self, e: Expr) -> Expr:
        return self._known.setdefault(e, e)

    def load(self, buffer: str, index: tuple[Index, ...], dtype: DType,
             guard: Expr | None = None) -> Expr:
        """An element of a buffer, read only where the guard is true."""
        return self._make(Expr("load", dtype, buffer, (guard,) if guard else (), index))

    def const(self, value: Any, dtype: DType) -> Expr:
        """A literal."""
        return self._make(Expr("const", dtype, np.asarray(value).astype(dtype.numpy)[()]))

    def index(self, index: Index, dtype: DType) -> Expr:
        """The value of an index."""
        return self._make(Expr("index", dtype, None, (), (index,)))

    def apply(self, op: str, dtype: DType, *args: Expr) -> Expr:
        """An elementwise op."""
        return self._make(Expr("apply", dtype, op, args))

    def acc(self, number: int, dtype: DType) -> Expr:
        """The result of a reduction."""
        return self._make(Expr("acc", dtype, number))


def walk(*roots: Expr) -> list[Expr]:
    """All sub-expressions, each once, every one after its children."""
    seen: set[Expr] = set()
    out: list[Expr] = []
    stack: list[tuple[Expr, bool]] = [(r, False) for r in reversed(roots)]
    while stack:
        e, done = stack.pop()
        if done:
            out.append(e)
        elif e not in seen:
            seen.add(e)
            stack.append((e, True))
            stack.extend((c, False) for c in reversed(e.children) if c not in seen)
    return out
