"""LU factors with the greatest number of each column as pivot (NumPy's LAPACK loops keep theirs).

Left-looking: a panel of columns, as wide as a tile of registers, first gets what the columns before
it say, then is factored by itself. A unit of work is one matrix.
"""

from __future__ import annotations

from weft.compiler.kernel.ir import Library
from weft.compiler.target import Target
from weft.compiler.types import numel
from weft.devices.cpu.code import KernelCode
from weft.devices.cpu.emit import Val
from weft.devices.cpu.library_frame import Elements, Frame, known
from weft.devices.cpu.library_planes import (
    ROWS,
    Number,
    Planes,
    divide,
    eliminate,
    minus_product,
)
from weft.devices.cpu.library_triangular import tile_shape

__all__ = ["emit_lu"]


def emit_lu(step: Library, name: str, target: Target) -> KernelCode:
    """Code for the op lu."""
    return _Lu(step, name, target).emit()


class _Lu:
    def __init__(self, step: Library, name: str, target: Target) -> None:
        self.f = Frame(step, name, target)
        self.source, self.out, self.pivots, self.permutation = self.f.arrays
        *self.lead, self.rows, self.columns = step.buffers[0][1].shape
        dtype = self.source.dtype
        self.vectors, self.lanes = tile_shape(target, dtype.itemsize, dtype.is_complex, 1 << 20)
        while self.vectors * self.lanes % ROWS:
            self.vectors *= 2
        self.width = self.vectors * self.lanes

    def emit(self) -> KernelCode:
        """The code."""
        f, e = self.f, self.f.e
        self.m, self.n = f.dim(self.rows), f.dim(self.columns)
        self.k = e.intrinsic("smin", self.m, self.n)
        self.padded = (self.m + (ROWS - 1)) / ROWS * ROWS
        self.panels = (self.n + (self.width - 1)) / self.width * self.width
        x = Planes(f, self.source.dtype, self.padded, self.panels)
        with e.loop(f.lo, f.hi, stem="item") as item:
            at = item.i * self.m * self.n
            pivots = self.pivots.at(item.i * self.k)
            order = self.permutation.at(item.i * self.m)
            self._take(x, self.source.at(at), order)
            with e.loop(0, self.panels, self.width, stem="panel") as panel:
                self._update(x, panel.i)
                self._panel(x, panel.i, pivots, order)
            self._give(x, self.out.at(at))
        x.release()
        m, n = known(self.rows), known(self.columns)
        return f.code(numel(self.lead), max(1, m * n * min(m, n)))

    def _take(self, x: Planes, source: Elements, order: Elements) -> None:
        e = self.f.e
        x.clear()
        with e.loop(0, self.m, stem="row") as row:
            order.store(row.i, e.convert(row.i, "i32"))
            with e.loop(0, self.n, stem="column") as column:
                x.put(row.i, column.i, source.load(row.i * self.n + column.i))

    def _give(self, x: Planes, out: Elements) -> None:
        e = self.f.e
        with e.loop(0, self.m, stem="row") as row, e.loop(0, self.n, stem="column") as column:
            out.store(row.i * self.n + column.i, x.take(row.i, column.i))

    # ---- what earlier columns say

    def _update(self, x: Planes, panel: Val) -> None:
        """First the rows of U, a triangular system with ones on its diagonal; then those below."""
        f, e = self.f, self.f.e
        before = e.intrinsic("smin", panel, self.m)
        triangle = e.intrinsic("smin", panel, self.padded)
        with e.loop(0, triangle, ROWS, stem="above") as rows:
            tile = self._eliminated(x, rows.i, panel, rows.i)
            for r, line in enumerate(tile):
                for q in range(r):
                    a = x.load(rows.i + r, rows.i + q)
                    line[:] = [minus_product(f, y, a, z) for y, z in zip(line, tile[q])]
            self._store(x, rows.i, panel, tile)
        with e.loop(triangle, self.padded, ROWS, stem="below") as rows:
            self._store(x, rows.i, panel, self._eliminated(x, rows.i, panel, before))

    def _eliminated(self, x: Planes, row: Val, panel: Val, known: Val) -> list[list[Number]]:
        return eliminate(self.f, x, x, row, panel, known, self.vectors, self.lanes)

    def _store(self, x: Planes, row: Val, panel: Val, tile: list[list[Number]]) -> None:
        for r, line in enumerate(tile):
            for v, y in enumerate(line):
                x.store(row + r, panel + v * self.lanes, y)

    # ---- the panel by itself

    def _panel(self, x: Planes, panel: Val, pivots: Elements, order: Elements) -> None:
        e = self.f.e
        end = e.intrinsic("smin", panel + self.width, self.k)
        with e.loop(panel, end, stem="pivot") as column:
            j = column.i
            p = self._pivot(x, j)
            pivots.store(j, e.convert(p, "i32"))
            with e.when(p.ne(j), "swap"):
                self._swap(x, order, j, p)
            self._below(x, panel, j)

    def _pivot(self, x: Planes, j: Val) -> Val:
        """The row of the greatest number from the diagonal down (complex: by |re| + |im|)."""
        e = self.f.e
        with e.loop(j, self.m, carry=[j, self._size(x, j, j)], stem="search") as loop:
            best, greatest = loop.carry
            size = self._size(x, loop.i, j)
            more = size > greatest
            loop.next = [e.select(more, loop.i, best), e.select(more, size, greatest)]
        return loop.out[0]

    def _size(self, x: Planes, i: Val, j: Val) -> Val:
        parts = [self.f.e.intrinsic("fabs", v) for v in x.load(i, j)]
        return parts[0] if len(parts) == 1 else parts[0] + parts[1]

    def _swap(self, x: Planes, order: Elements, i: Val, j: Val) -> None:
        e = self.f.e
        with e.loop(0, self.panels, self.lanes, stem="swap") as loop:
            a, b = (x.load(r, loop.i, self.lanes) for r in (i, j))
            x.store(i, loop.i, b)
            x.store(j, loop.i, a)
        first, second = order.load(i), order.load(j)
        order.store(i, second)
        order.store(j, first)

    def _below(self, x: Planes, panel: Val, j: Val) -> None:
        """Take row j away from those below it, in the panel's columns behind column j."""
        f, e = self.f, self.f.e
        pivot = x.load(j, j)
        zero = x.constant(0.0)
        nothing = pivot[0].eq(0.0)
        for part in pivot[1:]:
            nothing = nothing & part.eq(0.0)
        by = tuple(e.select(nothing, one, v) for one, v in zip(x.constant(1.0), pivot))
        behind = []
        for v in range(self.vectors):
            at = panel + v * self.lanes
            where = e.splat(at, self.lanes) + e.iota("i64", self.lanes)
            row = x.load(j, at, self.lanes)
            behind.append(tuple(e.select(where > e.splat(j, self.lanes), y,
                                         e.splat(z, self.lanes)) for y, z in zip(row, zero)))
        with e.loop(j + 1, self.m, stem="row") as row_loop:
            factor = divide(f, x.load(row_loop.i, j), by)
            for v, y in enumerate(behind):
                at = panel + v * self.lanes
                x.store(row_loop.i, at, minus_product(
                    f, x.load(row_loop.i, at, self.lanes), factor, y))
            x.store(row_loop.i, j, factor)
