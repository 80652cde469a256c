"""Panels of a product's operands: how a block's threads read them, and put them into shared memory.

A thread has one turn of each panel (or some that follow one another), and some rows of the tile.
What depends on the rows alone is worked out once, before the loop; a step costs one decomposition
of the turn into the summed axes, however these are nested, and one addition for each access.
"""

from __future__ import annotations

from weft.compiler.kernel.expr import Expr, walk
from weft.compiler.kernel.index import Axis, Index
from weft.compiler.types import Dim
from weft.devices.gpu.loops import place
from weft.devices.gpu.lower import load_value, memory_type
from weft.devices.gpu.updates import axes_of
from weft.devices.gpu.writer import Evaluator

__all__ = ["Panel"]

THREADS = 256
MOST_BYTES = 16         # of one access


class Panel:
    """The panel `side` of `depth` turns by `width` rows (or columns) of the tile: of a `value` over
    the axes `outer`, `size` in all, from `begin` on, and `inner`, of which there are `turns`."""

    def __init__(self, ev: Evaluator, side: str, value: Expr, outer: tuple[Axis, ...],
                 inner: tuple[Axis, ...], *, begin: str, size: Dim, turns: Dim, width: int,
                 depth: int, kind: str, type: str, unaligned: frozenset[str]) -> None:
        self.ev, self.w, self.side, self.value = ev, ev.w, side, value
        self.outer, self.inner, self.begin, self.size, self.turns = outer, inner, begin, size, turns
        self.width, self.depth, self.kind, self.type = width, depth, kind, type
        self.loads = [e for e in walk(value) if e.kind == "load"]
        self.simple = all(not e.args and self._apart(e.index[0]) for e in self.loads) \
            and not any(e.kind == "index" for e in walk(value))
        self.along_turn = _runs_along(value, inner[-1]) and not _runs_along(value, outer[-1])
        axis = inner[-1] if self.along_turn else outer[-1]
        self.vector = next(v for v in (4, 2, 1) if v == 1 or (
            self.simple and self._shared_out(v) and self._aligned(axis, v, unaligned)))
        self.count = self.width // self._stride

    # ---- who reads what

    def _shared_out(self, v: int) -> bool:
        """Whether threads with vectors of v have equal shares."""
        if self.along_turn:
            return self.depth % v == 0 and self.width % max(1, THREADS * v // self.depth) == 0
        return self.width % (THREADS // self.depth * v) == 0

    @property
    def _stride(self) -> int:
        """Rows between a thread's first and its next."""
        if self.along_turn:
            return THREADS * self.vector // self.depth
        return THREADS // self.depth * self.vector

    def _apart(self, index: Index) -> bool:
        inner = frozenset(self.inner)
        return all(a <= inner or not a & inner for a in (axes_of(t) for t, _ in index.terms))

    def _aligned(self, axis: Axis, v: int, unaligned: frozenset[str]) -> bool:
        """Whether v elements along the axis are one access, in each load that varies with it."""
        if not isinstance(axis.extent, int) or axis.extent % v:
            return False
        found = False
        for e in self.loads:
            index, item = e.index[0], self.ev.types[e.what].dtype.itemsize
            rest = [c for t, c in index.terms if t != axis]
            if not any(axis in axes_of(t) for t, _ in index.terms):
                continue
            if index.coefficient(axis) != 1 or e.what in unaligned or v * item > MOST_BYTES \
                    or not all(isinstance(c, int) and c % v == 0 for c in (*rest, index.const)) \
                    or any(axis in axes_of(t) for t, _ in index.terms if t != axis):
                return False
            found = True
        return found

    # ---- code

    def begin_rows(self) -> None:
        """Which turn and which rows a thread has, and what depends on these alone."""
        w, ev, s, v = self.w, self.ev, self.side, self.vector
        if self.along_turn:
            per = self.depth // v
            turn, at = f"(i32)threadIdx.x % {per} * {v}", f"(i32)threadIdx.x / {per}"
        else:
            per = THREADS // self.depth
            turn, at = f"(i32)threadIdx.x / {per}", f"(i32)threadIdx.x % {per} * {v}"
        w.line(f"const i32 {s}_turn = {turn}, {s}_at = {at};")
        w.line(f"{self.type} {s}_next[{self.count * v}];")
        for i in range(self.count):
            w.line(f"{self.kind} {s}_x{i} = {self.begin} + {s}_at + {i * self._stride};")
            w.line(f"const bool {s}_in{i} = {s}_x{i} < {ev.dim(self.size, self.kind)};")
            w.line(f"if (!{s}_in{i}) {s}_x{i} = 0;")
            if self.simple:
                for n in range(len(self.loads)):
                    w.line(f"{self.kind} {s}_{i}_{n};")
                with ev.scope(""):
                    place(ev, f"{s}_x{i}", self.outer, self.kind)
                    for n, e in enumerate(self.loads):
                        outer, _ = self._parts(e.index[0])
                        w.line(f"{s}_{i}_{n} = {ev.index_as(outer, self.kind)};")

    def _parts(self, index: Index) -> tuple[Index, Index]:
        """What of an index depends on rows, and on turns."""
        inner = frozenset(self.inner)
        own = tuple(t for t in index.terms if axes_of(t[0]) & inner)
        return Index(tuple(t for t in index.terms if t not in own), index.const), Index(own)

    def fetch(self, step: str) -> None:
        """Read the thread's elements of the panel from `step` on, into registers."""
        w, ev, s = self.w, self.ev, self.side
        with ev.scope(""):
            w.line(f"const {self.kind} turn = {step} + {s}_turn;")
            whole = isinstance(self.turns, int) and self.turns > 0 and self.turns % self.depth == 0
            inside = "" if whole else f" && turn < {ev.dim(self.turns, self.kind)}"
            place(ev, "turn", self.inner, self.kind)
            if self.simple:
                for n, e in enumerate(self.loads):
                    _, inner = self._parts(e.index[0])
                    w.line(f"const {self.kind} inner{n} = {ev.index_as(inner, self.kind)};")
            for i in range(self.count):
                for u in range(self.vector):
                    w.line(f"{s}_next[{i * self.vector + u}] = {self.type}();")
                with ev.scope(f"if ({s}_in{i}{inside})"):
                    self._read(i)

    def _read(self, i: int) -> None:
        w, ev, s, v = self.w, self.ev, self.side, self.vector
        if not self.simple:
            place(ev, f"{s}_x{i}", self.outer, self.kind)
            w.line(f"{s}_next[{i}] = {ev.value(self.value)};")
            return
        axis = self.inner[-1] if self.along_turn else self.outer[-1]
        found: list[tuple[Expr, str, bool]] = []
        for n, e in enumerate(self.loads):
            t, at, name = memory_type(ev.types[e.what].dtype), f"{s}_{i}_{n} + inner{n}", ev.fresh()
            wide = v > 1 and e.index[0].coefficient(axis) == 1
            w.line(f"const w_vec<{t}, {v}> {name} = *(const w_vec<{t}, {v}>*)({e.what} + {at});"
                   if wide else f"const {t} {name} = {e.what}[{at}];")
            found.append((e, name, wide))
        for u in range(v):
            with ev.scope(""):
                for e, name, wide in found:
                    text = f"{name}.v[{u}]" if wide else name
                    ev.given[e] = f"({load_value(text, ev.types[e.what].dtype)})"
                w.line(f"{s}_next[{i * v + u}] = {ev.value(self.value)};")

    def stash(self, buffer: str) -> None:
        """Put what was read into shared memory."""
        w, s, v = self.w, self.side, self.vector
        for i in range(self.count):
            for u in range(v):
                turn, at = (u, 0) if self.along_turn else (0, u)
                w.line(f"{s}[{buffer}][{s}_turn + {turn}][{s}_at + {i * self._stride + at}] = "
                       f"{s}_next[{i * v + u}];")


def _runs_along(value: Expr, axis: Axis) -> bool:
    """Whether a step along the axis is one through memory, in the value's first load."""
    stack = [value]
    while stack:
        e = stack.pop()
        if e.kind == "load":
            return e.index[0].coefficient(axis) == 1
        stack.extend(reversed(e.args))
    return False

