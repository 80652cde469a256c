"""How a contraction is cut into register tiles, blocks that fit the caches, and units of work."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, prod

from weft.compiler.kernel.index import Axis, Index
from weft.compiler.target import Target
from weft.compiler.types import DTYPES, Dim, numel
from weft.devices.cpu.gemm_form import Form, Leaf
from weft.devices.cpu.gemm_micro import plane_type

__all__ = ["Plan", "make_plan"]

TILE_TURN = 1.3          # cycles of a tile's turn besides its loads and multiplications
STREAM_VECTORS = 8       # columns in vectors from which a vector times a matrix streams it
BLOCK_BYTES = 8192       # of one row of a block of k
PARALLEL_WORK = 1 << 20  # multiply-adds from which a second thread pays
ASSUMED_ROWS = 256       # rows where their number is symbolic


@dataclass(frozen=True)
class Plan:
    """The schedule of a contraction.

    A unit computes `unit_rows` x `unit_columns` elements of one batch in tiles of `rows` x
    `vectors` vectors. Blocks of `depth` turns are accumulated one after another. `pack_right`
    copies the right side's block into panels as wide as a tile; `pack_left` copies a tile's rows,
    laid out along "k" or "m". `panels_outer` runs over columns outside, over rows inside.
    """

    lanes: int
    rows: int
    vectors: int
    ways: int
    depth: int
    unit_columns: int
    unit_rows: int              # 0: a symbolic number of rows, cut into row_chunks
    row_chunks: int
    pack_right: bool
    pack_left: str | None
    panels_outer: bool
    streams: bool               # one row: sums in memory, the right side read in order
    parallel: bool
    units: Dim

    @property
    def width(self) -> int:
        """Columns of a tile."""
        return self.lanes * self.vectors


def make_plan(form: Form, target: Target) -> Plan | None:
    """The plan expected to be the fastest; None where a general kernel serves better."""
    return _Planner(form, target).plan()


def _size(name: str) -> int:
    return DTYPES[name].itemsize


class _Planner:
    def __init__(self, form: Form, target: Target) -> None:
        self.form = form
        self.target = target
        self.item = max(_size(plane_type(x.expr.dtype)) for x in (*form.right, *form.left)) \
            if form.left else max(_size(plane_type(x.expr.dtype)) for x in form.right)
        self.item = max(self.item, _size(plane_type(form.dtype)))
        self.lanes = target.lanes(self.item)
        self.m = form.rows if isinstance(form.rows, int) else ASSUMED_ROWS
        self.n, self.k = form.columns, form.depth
        self.static = isinstance(form.rows, int)

    @property
    def _masked(self) -> bool:
        return self.target.masked and (self.target.vector_bytes >= 64 or all(
            t.dtype.itemsize >= 4 for _, t in self.form.kernel.buffers))

    def plan(self) -> Plan | None:
        """The plan; None for dot products along rows of the only matrix, read once: a row sum."""
        f = self.form
        if f.m is None and any(x.step(f.k) == 1 and x.step(f.n) != 1 for x in f.right):
            return None
        rows, vectors = self._tile()
        width = vectors * self.lanes
        right = self._packs_right(rows, width)
        depth = self._depth(right)
        left = self._left_layout()
        planes = 2 if self.form.dtype.is_complex else 1
        ways = 1
        while ways * rows * vectors * planes < 8 and ways * 2 * rows * vectors * planes <= 16 \
                and ways * 4 <= max(self.k, 1):
            ways *= 2
        work = self.m * self.n * self.k * self._batches()
        parallel = self.target.threads > 1 and work >= PARALLEL_WORK
        streams = self.form.m is None and not right and left is None \
            and self.n >= STREAM_VECTORS * self.lanes
        columns, unit_rows, chunks = self._units(rows, width, depth, parallel, right)
        units = numel(_extent(a) for a in self.form.batch) * ceil(self.n / columns) * chunks
        return Plan(self.lanes, rows, vectors, ways, depth, columns, unit_rows, chunks, right, left,
                    left is None and not right, streams, parallel, units)

    def _batches(self) -> int:
        return prod(a.extent if isinstance(a.extent, int) else 4 for a in self.form.batch)

    # ---- the register tile

    def _tile(self) -> tuple[int, int]:
        best, least = (1, 1), float("inf")
        most = max(1, ceil(self.n / self.lanes))
        planes = 2 if self.form.dtype.is_complex else 1
        for vectors in range(1, min(most, 8) + 1):
            for rows in range(1, min(self.m, 24) + 1):
                held = rows * vectors * planes + self._operands(vectors)
                if held > self.target.registers:
                    continue
                cost = self._cost(rows, vectors)
                if cost < least:
                    best, least = (rows, vectors), cost
        return best

    def _operands(self, vectors: int) -> int:
        """Vector registers besides the accumulators'."""
        right = sum(x.planes for x in self.form.right) * vectors
        left = sum(x.planes for x in (*self.form.left, *self.form.middle))
        spare = len(self.form.inner) - 1 + (not self.target.has_fma)
        return right + left + spare

    def _cost(self, rows: int, vectors: int) -> float:
        """Cycles for the whole, roughly: tiles x turns x the busiest of the core's ports."""
        tiles = ceil(self.m / rows) * ceil(self.n / (vectors * self.lanes))
        rate = 1.0 if self.target.vector_bytes > 32 else 0.5
        planes = 4 if self.form.dtype.is_complex else 1
        work = rows * vectors * rate * len(self.form.inner) * planes
        loads = 0.5 * (rows + vectors / rate)
        turn = max(work, loads) + TILE_TURN + 0.3 * vectors + 0.05 * rows
        return tiles * (self.k * turn + 3 * rows * vectors + 20)

    # ---- blocks

    def _depth(self, packed: bool) -> int:
        """Turns of a block: all of them, unless a tile's rows would be too long for L2.

        Blocks cost a round trip of all accumulators through memory.
        """
        if not self.static or not packed:
            return max(1, self.k)
        blocks = ceil(self.k * self.item / BLOCK_BYTES)
        return max(1, self.k if blocks <= 1 else ceil(self.k / blocks / 8) * 8)

    def _packs_right(self, rows: int, width: int) -> bool:
        f = self.form
        direct = all(x.step(f.n) == 1 and x.step(f.k) is not None for x in f.right)
        if not direct or not (self._masked or self.n % width == 0):
            return True
        if self.m <= 2 * rows:
            return False
        return self.n * self.k * self.item > self.target.l2_bytes // 4

    def _left_layout(self) -> str | None:
        f = self.form
        if f.m is None:
            ok = all(x.load is not None and x.step(f.k) is not None for x in f.middle)
            return None if ok else "k"
        direct = all(x.load is not None and x.step(f.k) is not None and x.step(f.m) is not None
                     for x in (*f.left, *f.middle))
        if direct and self.static and not any(map(self._conflicts, f.left)):
            return None
        return "m" if any(x.step(f.m) == 1 and x.step(f.k) != 1 for x in f.left) else "k"

    def _conflicts(self, leaf: Leaf) -> bool:
        """Whether rows of a tile would displace each other in a set of the L1 cache."""
        step = leaf.step(self.form.m)
        assert leaf.load is not None and step is not None
        if self.m <= 4:
            return False
        return (step * leaf.load.dtype.itemsize) % 2048 == 0 and self.k > 64

    # ---- units

    def _units(self, rows: int, width: int, depth: int, parallel: bool, packed: bool
               ) -> tuple[int, int, int]:
        """(columns of a unit, its rows, row chunks)."""
        panels = max(1, ceil(self.n / width))
        block = sum(x.planes for x in self.form.right) * depth * width * self.item
        most = max(1, self.target.l2_bytes // block) if packed else panels
        blocks = ceil(panels / most)
        threads = self.target.threads if parallel else 1
        wanted = 2 * threads if threads > 1 else 1
        share = ceil(wanted / max(1, self._batches()))
        blocks = max(blocks, min(panels, share))
        if blocks > 1 and threads > 1 and blocks % threads:
            blocks = min(panels, ceil(blocks / threads) * threads)
        per = ceil(panels / blocks)
        blocks = ceil(panels / per)
        tiles = max(1, ceil(self.m / rows))
        chunks = max(1, min(tiles, share // blocks)) if blocks < share else 1
        chunks = max(chunks, ceil(tiles * rows / 2048)) if depth < self.k else chunks
        tiles_each = ceil(tiles / chunks)
        if not self.static:
            return per * width, 0, chunks
        return per * width, tiles_each * rows, ceil(tiles / tiles_each)


def _extent(axis: Axis) -> Dim:
    assert not isinstance(axis.extent, Index)
    return axis.extent
