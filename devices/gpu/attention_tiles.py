"""What kernels of attention share: tiles of arrays in shared memory, and how they get there.

A block of threads has 8 threads for each row of a tile of its own (`LANES`, neighbours in a warp),
and a thread some of the columns. A panel holds rows as memory has them; `pitch` keeps the 16 bytes
that 8 neighbouring rows are read at in different banks.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from weft.compiler.kernel.expr import Expr
from weft.compiler.kernel.index import Axis, Index
from weft.compiler.lazy_dataclass import dataclass
from weft.compiler.target import Target
from weft.devices.gpu.writer import Evaluator

__all__ = ["LANES", "Panel", "pitch", "runs_in_fours", "shared_limit"]

LANES = 8
# bytes of shared memory that a block may ask for, by architecture; 48 KB on others
_LIMITS = {75: 64, 80: 163, 86: 99, 87: 163, 89: 99, 90: 227, 100: 227, 103: 227, 110: 227,
           120: 99, 121: 99}


def shared_limit(target: Target) -> int:
    """Bytes of shared memory that a block may have."""
    return _LIMITS.get(int(target.cpu[3:]), 48) << 10


def pitch(columns: int) -> int:
    """From row to row of a panel whose rows are read side by side, in elements: 4 modulo 8.

    >>> pitch(64), pitch(20)
    (68, 20)
    """
    whole = -(-columns // 4) * 4
    return whole if whole % 8 == 4 else whole + 4


@dataclass(frozen=True)
class Panel:
    """So many rows and columns of a float32 array in shared memory, from `name` on.

    Rows go along the axis `down`, columns along `across`; `columns` is a multiple of 4. What lies
    outside the axes is 0.
    """

    name: str
    e: Expr
    down: Axis
    across: Axis
    rows: int
    columns: int
    pitch: int

    @property
    def size(self) -> int:
        """Elements of shared memory."""
        return self.rows * self.pitch

    def _at_once(self, unaligned: frozenset[str]) -> int:
        """How many elements are copied at a time."""
        fours = runs_in_fours(self.e.index[0], self.across) and self.e.what not in unaligned
        return 4 if fours else 1

    def fill(self, ev: Evaluator, threads: int, row: str, column: str = "0",
             unaligned: frozenset[str] = frozenset()) -> None:
        """Copies into it, begun by all threads, from this row and column of the array on."""
        n = self._at_once(unaligned)
        with self._elements(ev, threads, row, column, n):
            ev.w.line(f"w_copy_async<{n}>({self.name} + x * {self.pitch} + y, "
                      f"{self.e.what} + (inside ? {ev.index(self.e.index[0])} : 0), inside);")

    def look(self, ev: Evaluator, first: str, step: int, column: str, row: str, then: str,
             unaligned: frozenset[str] = frozenset()) -> None:
        """A thread reads, from memory, four columns of the rows from a first one on, and does
        something with each number, which is that of column ``column + u``."""
        n = self._at_once(unaligned)
        inside = [f"{a} < {_extent(axis)}" for a, axis, n in (
            ("at_x", self.down, self.rows), ("at_y", self.across, self.columns))
            if _extent(axis) % n]
        guard = f"if ({' && '.join(inside)}) " if inside else ""
        ev.w.line("#pragma unroll 8")
        with ev.scope(f"for (i32 x = {first}; x < {self.rows}; x += {step})"):
            ev.w.line(f"const i32 at_x = {row} + x;")
            ev.w.line("#pragma unroll")
            with ev.scope(f"for (i32 c = 0; c < 4; c += {n})"):
                ev.w.line(f"const i32 at_y = {column} + c;")
                ev.axes.update({self.down: "at_x", self.across: "at_y"})
                ev.w.line(f"w_vec<f32, {n}> z = {{}};")
                ev.w.line(f"{guard}z = *(const w_vec<f32, {n}>*)"
                          f"({self.e.what} + ({ev.index(self.e.index[0])}));")
                ev.w.line(f"for (i32 w = 0; w < {n}; ++w) "
                          f"{then.replace('[u]', '[c + w]').format('z.v[w]')}")

    @contextmanager
    def _elements(self, ev: Evaluator, threads: int, row: str, column: str, n: int
                  ) -> Iterator[None]:
        along, down, across = self.columns // n, "e / {0}", "e % {0}"
        if n == 1 and self.e.index[0].coefficient(self.down) == 1:  # neighbours read neighbours
            along, down, across = self.rows, "e % {0}", "e / {0}"
        count = self.rows * self.columns // n
        ev.w.line(f"#pragma unroll {min(8, -(-count // threads))}")
        with ev.scope(f"for (i32 e = (i32)threadIdx.x; e < {count}; e += {threads})"):
            scale = f" * {n}" if n > 1 else ""
            ev.w.line(f"const i32 x = {down.format(along)}, y = {across.format(along)}{scale};")
            ev.w.line(f"const i32 at_x = {row} + x, at_y = {_plus(column, 'y')};")
            inside = []
            if _extent(self.down) % self.rows:
                inside.append(f"at_x < {_extent(self.down)}")
            if _extent(self.across) % self.columns:
                inside.append(f"at_y < {_extent(self.across)}")
            ev.axes.update({self.down: "at_x", self.across: "at_y"})
            ev.w.line(f"const bool inside = {' && '.join(inside) or 'true'};")
            yield


def runs_in_fours(index: Index, axis: Axis) -> bool:
    """Whether fours of elements along an axis are 16 bytes that begin at a multiple of 16."""
    others = [c for a, c in index.terms if a != axis]
    return index.coefficient(axis) == 1 and _extent(axis) % 4 == 0 \
        and all(isinstance(c, int) and c % 4 == 0 for c in (*others, index.const))


def _plus(a: str, b: str) -> str:
    return b if a == "0" else f"{a} + {b}"


def _extent(axis: Axis) -> int:
    assert isinstance(axis.extent, int)
    return axis.extent
