"""How a contraction is cut into register tiles, blocks that fit the caches, and units of work."""

from __future__ import annotations

from math import ceil, prod

from weft.compiler.kernel.index import Axis, Index
from weft.compiler.lazy_dataclass import dataclass
from weft.compiler.target import Target
from weft.compiler.types import DTYPES, Dim, numel
from weft.devices.cpu.gemm_form import Form, Leaf
from weft.devices.cpu.gemm_micro import plane_type

__all__ = ["Plan", "make_plan", "masks_are_cheap"]

TILE_TURN = 1.3          # cycles of a tile's turn besides its loads and multiplications
MASKED_COST = 2.0        # times that of a whole tile, where one row's last tile is masked
PACK_LINE = 4.0          # cycles to pack a cache line
UNIT_CYCLES = 1000       # to begin a unit
LINES_APART = 2000       # cycles lost by a streaming unit for every cut of its rows
MANY_TILES = 16          # tiles of rows from which on the right side must leave room in L2
TILES_ROWS = 2048        # rows of a unit whose tiles are kept in memory between blocks of k
STREAM_VECTORS = 8       # columns in vectors from which a vector times a matrix streams it
BLOCK_BYTES = 8192       # of one row of a block of k
PARALLEL_WORK = 600_000  # multiply-adds from which a second thread pays
PARALLEL_BYTES = 1 << 20 # of the right side from which it does
LONG_SUM = 1 << 15       # turns from which a dot product's sums are kept more exactly
ASSUMED_ROWS = 256       # rows where their number is symbolic
ASSUMED_LINES = 64       # lines where their number is
WHOLE_TURNS = 4096       # of a sum over several axes up to which it is not cut into blocks
FEW_TURNS, MANY_TURNS = 128, 1024    # of a block otherwise


@dataclass(frozen=True)
class Plan:
    """The schedule of a contraction.

    A unit computes `unit_rows` x `unit_columns` elements of one batch in tiles of `rows` x
    `vectors` vectors, in each of some `lines` of the batch (a share of all that `line_parts`
    says). Blocks of k are accumulated one after another: `depth` turns of the axis at `split` in
    the sum's nest, with all turns inside, `turns` together. `pack_right` copies the right side's
    block into panels as wide as a tile; `pack_left` copies the left side beforehand, laid out along
    "k" or "m". `panels_outer` runs over columns outside, rows inside.
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
    beside: bool = False        # one row: dot products with `rows` rows of the right side at once
    split: int = 0
    turns: int = 0
    lines: int = 1
    line_parts: int = 1

    @property
    def width(self) -> int:
        """Columns of a tile."""
        return self.lanes * self.vectors

    def blocks(self, form: Form) -> int:
        """Into how many blocks the sum is cut."""
        counts = [n for a in form.nest if isinstance(n := a.extent, int)]
        return max(1, prod(counts[:self.split]) * ceil(counts[self.split] / self.depth))


def make_plan(form: Form, target: Target) -> Plan | None:
    """The plan expected to be the fastest; None where a general kernel serves better."""
    return _Planner(form, target).plan()


def _size(name: str) -> int:
    return DTYPES[name].itemsize


def masks_are_cheap(form: Form, target: Target) -> bool:
    """Whether loads and stores of all of the kernel's types may be masked."""
    return target.masked and (target.vector_bytes >= 64 or all(
        t.dtype.itemsize >= 4 for _, t in form.kernel.buffers))


@dataclass(frozen=True)
class _Draft:
    """The tile and how operands are read, before the units are decided on."""

    rows: int
    vectors: int
    width: int
    split: int
    depth: int
    turns: int
    right: bool
    left: str | None
    streams: bool
    parallel: bool


class _Planner:
    def __init__(self, form: Form, target: Target) -> None:
        self.form = form
        self.target = target
        self.item = max(_size(plane_type(x.expr.dtype)) for x in (*form.right, *form.left)) \
            if form.left else max(_size(plane_type(x.expr.dtype)) for x in form.right)
        self.item = max(self.item, _size(plane_type(form.dtype)))
        self.lanes = target.lanes(self.item)
        self.m = form.rows if isinstance(form.rows, int) else ASSUMED_ROWS
        self.n, self.k = form.columns, form.turns
        self.static = isinstance(form.rows, int)
        self.lines = prod(n if isinstance(n := a.extent, int) else ASSUMED_LINES
                          for a in form.lines)
        self.all_rows = self.m * self.lines

    def plan(self) -> Plan | None:
        """The plan; None for dot products of a few elements, or of very many."""
        f = self.form
        if f.m is None and any(x.step(f.k) == 1 and x.step(f.n) != 1 for x in f.right):
            return self._beside() if self.lanes <= self.k <= LONG_SUM else None
        if f.outer and not self._reads_in_place():
            return None
        p = self._draft()
        if p.turns < self.k and not all(isinstance(a.extent, int) for a in f.lines):
            return None
        parts, chunks, line_parts = self._units(p)
        panels, tiles = max(1, ceil(self.n / p.width)), max(1, ceil(self.m / p.rows))
        columns, unit_tiles = ceil(panels / parts), ceil(tiles / chunks)
        chunks = ceil(tiles / unit_tiles) if self.static else chunks
        line_parts = ceil(self.lines / ceil(self.lines / line_parts))
        units = numel(_extent(a) for a in f.apart) * ceil(panels / columns) * chunks * line_parts
        return Plan(self.lanes, p.rows, p.vectors, self._ways(p), p.depth, columns * p.width,
                    unit_tiles * p.rows if self.static else 0, chunks, p.right, p.left,
                    not p.right, p.streams, p.parallel, units, split=p.split, turns=p.turns,
                    lines=ceil(self.lines / line_parts), line_parts=line_parts)

    def _reads_in_place(self) -> bool:
        """Whether the left side of a sum over several axes, which is not packed, can be read."""
        f = self.form
        return self.static and all(
            x.load is not None and x.step(f.k) is not None and x.step(f.m) is not None
            for x in (*f.left, *f.middle))

    def _beside(self) -> Plan:
        """Dot products along rows of the only matrix, several at once."""
        rows = 1
        most = min(self.n, self.lanes, 8 if self.target.registers > 16 else 4)
        while 2 * rows <= most:
            rows *= 2
        threads = self.target.threads
        parallel = threads > 1 and self._right_bytes() >= PARALLEL_BYTES // 2
        parts = ceil(4 * threads / self._apart()) if parallel else 1
        columns = ceil(self.n / parts / rows) * rows
        units = numel(_extent(a) for a in self.form.batch) * ceil(self.n / columns)
        return Plan(self.lanes, rows, 1, 1, self.k, columns, 1, 1, False, None, False, False,
                    parallel, units, beside=True)

    def _draft(self) -> _Draft:
        rows, vectors = self._tile()
        width = vectors * self.lanes
        right, left = self._packs_right(rows, width), self._left_layout()
        streams = self.form.m is None and not right and left is None \
            and self.n >= STREAM_VECTORS * self.lanes
        split, depth, turns = self._blocks(right)
        work = self.all_rows * self.n * self.k * self._apart()
        parallel = self.target.threads > 1 and (
            work >= PARALLEL_WORK or self._right_bytes() >= PARALLEL_BYTES)
        return _Draft(rows, vectors, width, split, depth, turns, right, left, streams, parallel)

    def _ways(self, p: _Draft) -> int:
        """Sets of accumulators that keep the adders busy in spite of their latency."""
        held = p.rows * p.vectors * (2 if self.form.dtype.is_complex else 1)
        ways = 1
        while ways * held < 8 and ways * 4 <= self.k:
            ways *= 2
        return ways

    def _right_bytes(self) -> int:
        return self.n * self.k * self.item * self._apart()

    def _apart(self) -> int:
        return prod(a.extent if isinstance(a.extent, int) else 4 for a in self.form.apart)

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
                if self.form.m is None and self.n % (vectors * self.lanes):
                    cost *= MASKED_COST
                if cost < least:
                    best, least = (rows, vectors), cost
        return best

    def _operands(self, vectors: int) -> int:
        """Vector registers besides the accumulators'."""
        right = sum(x.planes for x in self.form.right) * vectors
        left = sum(x.planes for x in (*self.form.left, *self.form.middle))
        spare = 6 * (len(self.form.inner) - 1) + (not self.target.has_fma)
        return right + left + spare

    def _cost(self, rows: int, vectors: int) -> float:
        """Cycles for the whole, roughly: tiles x turns x the busiest of the core's ports."""
        tiles = ceil(self.m / rows) * ceil(self.n / (vectors * self.lanes))
        return tiles * self._tile_cycles(rows, vectors)

    def _tile_cycles(self, rows: int, vectors: int) -> float:
        rate = 1.0 if self.target.vector_bytes > 32 else 0.5
        planes = 4 if self.form.dtype.is_complex else 1
        work = rows * vectors * rate * len(self.form.inner) * planes
        loads = 0.5 * (rows + vectors / rate)
        turn = max(work, loads) + TILE_TURN + 0.3 * vectors + 0.05 * rows
        return self.k * turn + 3 * rows * vectors + 20

    # ---- blocks

    def _blocks(self, packed: bool) -> tuple[int, int, int]:
        """The axis that is cut into blocks, and how many turns of it and in all a block has.

        A long sum over several axes is that of weights' gradients: a block of both sides, which
        every tile reads, has to stay in L2.
        """
        if not self.form.outer:
            depth = self._depth(packed)
            return 0, depth, depth
        counts = [n for a in self.form.nest if isinstance(n := a.extent, int)]
        most = self._fitting() if self.k > WHOLE_TURNS else self.k
        split = next(i for i in range(len(counts)) if prod(counts[i + 1:]) <= most
                     or i == len(counts) - 1)
        inside = prod(counts[split + 1:])
        pieces = ceil(counts[split] / max(1, most // max(inside, 1)))
        depth = ceil(counts[split] / max(pieces, 1))
        return split, max(1, depth), max(1, depth) * inside

    def _fitting(self) -> int:
        """Turns of which both sides fit L2."""
        fits = self.target.l2_bytes // 2 // (self.item * (self.n + min(self.m, 256)))
        return min(max(fits, FEW_TURNS), MANY_TURNS)

    def _is_long(self) -> bool:
        """Whether this is a long sum of products of rows that lie along m and along n: the gradient
        of weights."""
        f = self.form
        return self.static and self.k > WHOLE_TURNS and f.m is not None and all(
            x.load is x.expr and x.step(f.m) == 1 and x.step(f.k) is not None for x in f.left) \
            and not f.middle

    def _depth(self, packed: bool) -> int:
        """Turns of a block: all of them, unless a tile's rows would be too long for L2.

        Blocks cost a round trip of all accumulators through memory.
        """
        if self._is_long():
            pieces = ceil(self.k / self._fitting())
            return max(1, ceil(self.k / pieces))
        if not self.static or not packed:
            return max(1, self.k)
        blocks = ceil(self.k * self.item / BLOCK_BYTES)
        return max(1, self.k if blocks <= 1 else ceil(self.k / blocks / 8) * 8)

    def _packs_right(self, rows: int, width: int) -> bool:
        f = self.form
        direct = all(x.step(f.n) == 1 and x.step(f.k) is not None for x in f.right)
        masks = masks_are_cheap(f, self.target)
        if f.m is None and direct:
            return not (masks or self.n % width == 0)     # each element is used once
        # only AVX-512 has registers for masks apart from those for accumulators
        free_masks = masks and self.target.vector_bytes >= 64
        if not direct or not (free_masks or self.n % width == 0):
            return True
        if self.all_rows > 2 * rows and any(x.load is not x.expr for x in f.right):
            return True                       # converted once, not for every tile
        size, m = self.n * self.k * self.item, self.all_rows
        some, many = self.target.l2_bytes // 4, self.target.l2_bytes * 2
        return not (m <= 2 * rows or size <= some or (size <= many and m <= 8 * rows))

    def _left_layout(self) -> str | None:
        f = self.form
        if f.outer or self._is_long():
            return None
        if f.m is None:
            ok = all(x.load is not None and x.step(f.k) is not None for x in f.middle)
            return None if ok else "k"
        direct = all(x.load is not None and x.step(f.k) is not None and x.step(f.m) is not None
                     for x in (*f.left, *f.middle))
        again = self.n > self.lanes * 4 and any(x.load is not x.expr for x in f.left)
        if direct and self.static and not again and not any(map(self._conflicts, f.left)):
            return None
        return "m" if any(x.step(f.m) == 1 and x.step(f.k) != 1 for x in f.left) else "k"

    def _conflicts(self, leaf: Leaf) -> bool:
        """Whether rows of a tile would displace each other in a set of the L1 cache, or a tile
        reads too many different lines to find them there for the next panel."""
        step = leaf.step(self.form.m)
        assert leaf.load is not None and step is not None
        if self.m <= 4:
            return False
        if leaf.step(self.form.k) != 1:
            return self.k * 64 > self.target.l1_bytes // 2 and self.n >= 8 * self.lanes
        return (step * leaf.load.dtype.itemsize) % 2048 == 0 and self.k > 64

    # ---- units

    def _units(self, p: _Draft) -> tuple[int, int, int]:
        """Into how many parts columns, rows and lines are cut, for the shortest time of the last
        thread.

        A unit's share of the right side must fit L2, or half of it where much of the left side and
        of the result passes through; cutting the rows packs it again and again.
        """
        panels, tiles = max(1, ceil(self.n / p.width)), max(1, ceil(self.m / p.rows))
        threads = self.target.threads if p.parallel else 1
        block = sum(x.planes for x in self.form.right) * p.turns * p.width * self.item
        room = self.target.l2_bytes // (2 if self.all_rows > MANY_TILES * p.rows else 1)
        fits = max(1, room // block) if p.right else panels
        chunks = ceil(tiles * p.rows / TILES_ROWS) if p.turns < self.k else 1
        cuts = ceil(tiles * p.rows * self.lines / TILES_ROWS / chunks) \
            if p.turns < self.k and self.form.lines else 1
        best, least = (ceil(panels / fits), chunks, cuts), float("inf")
        for parts in _counts(ceil(panels / fits), min(panels, 4 * threads)):
            for rows in _counts(chunks, min(tiles, 1 if p.streams else 4 * threads)):
                for lines in _counts(cuts, min(self.lines, 4 * threads)):
                    time = self._time(p, ceil(panels / parts), ceil(tiles / rows),
                                      ceil(self.lines / lines), parts * rows * lines, threads)
                    if time < least:
                        best, least = (parts, rows, lines), time
        return best

    def _time(self, p: _Draft, panels: int, tiles: int, lines: int, units: int, threads: int
              ) -> float:
        """Cycles until all threads are done; more units than needed even out disturbances."""
        line = self.k * self.item / 64
        right = panels * p.width * line * PACK_LINE     # packed or not, it is fetched
        unit = panels * tiles * lines * self._tile_cycles(p.rows, p.vectors) + right + UNIT_CYCLES
        units *= self._apart()
        if p.streams:
            unit += LINES_APART * units     # short pieces of rows are read slowly
        uneven = 0.04 * threads / max(units, threads) if threads > 1 else 0.0
        return ceil(units / threads) * unit * (1 + uneven)


def _counts(least: int, most: int) -> list[int]:
    """Numbers of parts worth trying."""
    steps = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 16, 20, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
    return sorted({least, *(n for n in steps if least <= n <= most)})


def _extent(axis: Axis) -> Dim:
    assert not isinstance(axis.extent, Index)
    return axis.extent
