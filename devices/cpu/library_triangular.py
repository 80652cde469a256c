"""Triangular systems, by substitution (NumPy's LAPACK loops have none).

    x[i] = (b[i] - sum over k < i of a[i, k] x[k]) / a[i, i]

Every case is brought to this one while the matrix and the right-hand sides are copied into scratch
memory: upper triangles are turned round, sides and transposes exchanged. Right-hand sides are the
lanes of vectors; a unit of work is one of them.
"""

from __future__ import annotations

from weft.compiler.kernel.ir import Library
from weft.compiler.target import Target
from weft.compiler.types import numel
from weft.devices.cpu.code import KernelCode
from weft.devices.cpu.emit import Val
from weft.devices.cpu.library_frame import Elements, Frame, known
from weft.devices.cpu.library_planes import ROWS, Planes, divide, eliminate, minus_product

__all__ = ["emit_triangular_solve", "tile_shape"]


def emit_triangular_solve(step: Library, name: str, target: Target) -> KernelCode:
    """Code for the op triangular_solve."""
    return _Solve(step, name, target).emit()


def tile_shape(target: Target, itemsize: int, is_complex: bool, width: int) -> tuple[int, int]:
    """How many vectors of how many lanes a tile is wide: what the registers hold, and `width`, the
    number of right-hand sides, needs."""
    lanes = target.lanes(itemsize // 2 if is_complex else itemsize)
    while lanes >= 2 * max(1, width):
        lanes //= 2
    most = (4 if target.vector_bytes >= 64 else 2) // (2 if is_complex else 1)
    return max(1, min(most, -(-width // lanes))), lanes


class _Solve:
    def __init__(self, step: Library, name: str, target: Target) -> None:
        attrs = dict(step.attrs)
        self.f = Frame(step, name, target)
        self.a, self.b, self.out = self.f.arrays
        self.shape = step.buffers[1][1].shape
        self.left, self.unit = attrs["left_side"], attrs["unit_diagonal"]
        self.conjugate = attrs["transpose_a"] == "ADJOINT"
        # x a = b is a^T x^T = b^T
        self.turned = (attrs["transpose_a"] != "NO_TRANSPOSE") != (not self.left)
        self.reverse = attrs["lower"] == self.turned
        *self.lead, rows, columns = self.shape
        self.m, self.n = (rows, columns) if self.left else (columns, rows)
        dtype = self.b.dtype
        self.vectors, self.lanes = tile_shape(target, dtype.itemsize, dtype.is_complex,
                                              known(self.n))

    def emit(self) -> KernelCode:
        """The code."""
        f, e = self.f, self.f.e
        width = self.vectors * self.lanes
        self.size, self.count = f.dim(self.m), f.dim(self.n)
        padded = (self.size + (ROWS - 1)) / ROWS * ROWS
        factors = Planes(f, self.a.dtype, padded, padded)
        x = Planes(f, self.b.dtype, padded, e.const("i64", width))

        def run(block: Val, column: Val, columns: Val) -> None:
            self._factors(factors, self.a.at(block * self.size * self.size), padded)
            self._exchange(x, block, column, columns, into=True)
            self._substitute(factors, x, padded)
            self._exchange(x, block, column, columns, into=False)
        f.columns(self.n, width, run)
        x.release()
        factors.release()
        return f.code(numel(self.lead) * self.n, self.m * self.m, width)

    # ---- copying in and out

    def _from_end(self, i: Val) -> Val:
        return self.size - 1 - i if self.reverse else i

    def _factors(self, factors: Planes, source: Elements, padded: Val) -> None:
        """The triangle as a lower one; ones on the diagonal of rows that are there to fill up."""
        e = self.f.e
        one, zero = factors.constant(1.0), factors.constant(0.0)
        with e.loop(0, self.size, stem="row") as row:
            i = self._from_end(row.i)
            with e.loop(0, row.i + 1, stem="column") as column:
                k = self._from_end(column.i)
                at = k * self.size + i if self.turned else i * self.size + k
                factors.put(row.i, column.i, source.load(at), self.conjugate)
            if self.unit:
                factors.store(row.i, row.i, one)
        with e.loop(self.size, padded, stem="row") as row:
            with e.loop(0, padded, stem="column") as column:
                factors.store(row.i, column.i, zero)
            factors.store(row.i, row.i, one)

    def _exchange(self, x: Planes, block: Val, column: Val, columns: Val, into: bool) -> None:
        """Right-hand sides into x, zeros where there are none; or solutions out of it."""
        e = self.f.e
        begin = block * self.size * self.count
        if into:
            x.clear()
        with e.loop(0, self.size, stem="row") as row, e.loop(0, columns, stem="column") as side:
            i, j = self._from_end(row.i), column + side.i
            at = begin + (i * self.count + j if self.left else j * self.size + i)
            if into:
                x.put(row.i, side.i, self.b.load(at))
            else:
                self.out.store(at, x.take(row.i, side.i))

    # ---- solving

    def _substitute(self, factors: Planes, x: Planes, padded: Val) -> None:
        f, e = self.f, self.f.e
        zero = e.const("i64", 0)
        with e.loop(0, padded, ROWS, stem="rows") as rows:
            tile = eliminate(f, factors, x, rows.i, zero, rows.i, self.vectors, self.lanes)
            for r, line in enumerate(tile):
                for q in range(r):
                    a = factors.load(rows.i + r, rows.i + q)
                    line[:] = [minus_product(f, y, a, z) for y, z in zip(line, tile[q])]
                if not self.unit:
                    diagonal = factors.load(rows.i + r, rows.i + r)
                    line[:] = [divide(f, y, diagonal) for y in line]
                for v, y in enumerate(line):
                    x.store(rows.i + r, zero + v * self.lanes, y)
