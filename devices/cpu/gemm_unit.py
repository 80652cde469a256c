"""The loops around a contraction's tiles, for one unit of work; see `gemm`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import ceil

from weft.compiler.lazy_dataclass import dataclass
from weft.compiler.types import DTYPES, numel
from weft.devices.cpu.emit import Val
from weft.devices.cpu.gemm_finish import Finisher, call_finish, epilogue_cost
from weft.devices.cpu.gemm_form import Leaf
from weft.devices.cpu.gemm_frame import Frame, extent
from weft.devices.cpu.gemm_left import LeftCopy
from weft.devices.cpu.gemm_micro import Body, Planes, Reader, Sides, Tile, plane_type
from weft.devices.cpu.gemm_read import left_reader, pack_right, packed_reader, right_reader

__all__ = ["Area", "UnitWriter"]

STACK_BYTES = 16 << 10    # a unit's memory up to this size lies on the stack
INLINE_COST = 4.0         # flops of an epilogue up to which it is written out for every register


@dataclass(frozen=True)
class Area:
    """Rows, columns, turns and lines [lo, hi) that the loops are at; `block` counts blocks of k,
    whose turns are those of the axis that is cut."""

    m: tuple[Val, Val]
    n: tuple[Val, Val]
    k: tuple[Val, Val]
    block: Val
    lines: tuple[Val, Val]


class UnitWriter:
    """Writes the function that computes units."""

    def __init__(self, frame: Frame, left: Sequence[LeftCopy], finish: str, masked: bool) -> None:
        self.f = frame
        self.finish = finish    # the function of `write_finish`
        self.e, self.ev, self.form, self.plan = frame.e, frame.ev, frame.form, frame.plan
        self.left = left
        self.masked = masked
        self.body = Body(self.e, self.form, self.plan.lanes)
        self.finisher = Finisher(self.e, self.ev, self.form, self.plan.lanes, masked)
        self.blocks = max(1, ceil(self.form.turns / self.plan.turns)) if not self.form.outer else \
            self.plan.blocks(self.form)
        self.type = plane_type(self.form.dtype)
        self.planes = len(self.body.start())
        self.regions: dict[Leaf, Val] = {}

    def write(self) -> None:
        """The whole body of the function."""
        p, f = self.plan, self.f
        with self._memory(), f.units() as unit:
            unit, column = f.divided(unit, ceil(self.form.columns / p.unit_columns))
            unit, chunk = f.divided(unit, p.row_chunks)
            unit, part = f.divided(unit, p.line_parts)
            f.place_batch(unit, self.form.apart)
            lines = f.rows(part, 0, p.line_parts, 1, numel(map(extent, self.form.lines)))
            n_lo = column * p.unit_columns
            n = n_lo, f.least(n_lo + p.unit_columns, self.form.columns)
            m = f.rows(chunk, p.unit_rows, p.row_chunks, p.rows)
            with f.span(0, self.blocks) as block:
                k = f.begin(block)
                for leaf, region in self.regions.items():
                    pack_right(f, leaf, region, n, k, self.masked)
                self._tiles(Area(m, n, k, block, lines))

    # ---- memory

    @contextmanager
    def _memory(self) -> Iterator[None]:
        """The unit's own memory: panels of the right side, and tiles."""
        e, p = self.e, self.plan
        panels = {x: _rounded(x.planes * p.turns * self._width * _item(x))
                  for x in self.form.right} if p.pack_right else {}
        total = sum(panels.values()) + self._tile_bytes
        block = e.const("ptr", 0)
        if 0 < total <= STACK_BYTES:
            block = e.assign(f"alloca i8, i64 {total}, align 64", "ptr")
        elif total:
            e.declares.add("declare ptr @weft_alloc(i64)")
            block = e.assign(f"call ptr @weft_alloc(i64 {total})", "ptr")
        at = 0
        for leaf, size in panels.items():
            self.regions[leaf] = e.gep(block, at, "i8")
            at += size
        self.tiles = e.gep(block, at, "i8")
        yield
        if total > STACK_BYTES:
            e.declares.add("declare void @weft_free(ptr)")
            e.write(f"call void @weft_free(ptr {block.ref})")

    @property
    def _width(self) -> int:
        """Columns of a unit's panels."""
        return ceil(self.plan.unit_columns / self.plan.width) * self.plan.width

    @property
    def _tile_size(self) -> int:
        return self.planes * self.plan.rows * self.plan.width

    @property
    def _tile_bytes(self) -> int:
        """Bytes of the tiles kept: all of the unit's between blocks of k, one for an epilogue."""
        p, one = self.plan, _rounded(self._tile_size * DTYPES[self.type].itemsize)
        if self.blocks > 1:
            return one * p.lines * ceil(p.unit_rows / p.rows) * (self._width // p.width)
        return 0 if self.inline else one

    @property
    def inline(self) -> bool:
        """Whether accumulators go to the epilogue in registers."""
        p, form, rows = self.plan, self.form, self.form.rows
        # tiles that are moved up store rows again, which must not be read by then
        again = p.pack_left is None and not form.kernel.shares
        exact = again or (isinstance(rows, int) and rows % p.rows == 0)
        masked = self.masked or form.columns % p.width == 0
        return exact and masked and self.blocks == 1 and epilogue_cost(form) <= INLINE_COST

    # ---- tiles

    def _tiles(self, a: Area) -> None:
        e, p = self.e, self.plan
        if p.panels_outer:
            with e.loop(*a.n, p.width, stem="panel") as column, self._line(a) as line, \
                    e.loop(*a.m, p.rows, stem="rows") as row, self.ev.scope():
                self._tile(a, line, row.i, column.i)
            return
        with self._line(a) as line, e.loop(*a.m, p.rows, stem="rows") as row, \
                e.loop(*a.n, p.width, stem="panel") as column, self.ev.scope():
            self._tile(a, line, row.i, column.i)

    @contextmanager
    def _line(self, a: Area) -> Iterator[Val]:
        """The loop over the unit's lines; the number of one."""
        if not self.form.lines:
            yield a.lines[0]
            return
        with self.e.loop(*a.lines, stem="line") as line, self.ev.scope():
            self.f.place_batch(line.i, self.form.lines)
            yield line.i

    def _wanted(self, a: Area, m: Val) -> tuple[Val, tuple[Val, Val]]:
        """The first row that the tile at m computes, and which of its rows are wanted.

        In the array itself the last tile is moved up to end with the last row.
        """
        e, p, total = self.e, self.plan, self.form.rows
        zero, rows = e.const("i64", 0), e.const("i64", p.rows)
        if isinstance(total, int) and total % p.rows == 0:
            return m, (zero, rows)
        if p.pack_left:
            return m, (zero, self.f.least(a.m[1] - m, p.rows))
        assert isinstance(total, int)
        start = self.f.least(m, total - p.rows)
        return start, (m - start, rows)

    def _tile(self, a: Area, line: Val, m: Val, n: Val) -> None:
        p, f = self.plan, self.f
        start, rows = self._wanted(a, m)
        masks = self._masks(n, a.n[1])
        spans, (lo, _) = f.spans(a.k)
        first = self.e.like(m, lo)

        def make() -> Sides:
            readers = self._left_readers(start, first)
            right = [packed_reader(f, x, self.regions[x], n - a.n[0]) if p.pack_right else
                     right_reader(f, x, n, first, masks, p.lanes) for x in self.form.right]
            return ([r for r in readers if r.leaf in self.form.left], right,
                    [r for r in readers if r.leaf not in self.form.left])

        depth: Val | int = self.form.depth if spans or self.blocks == 1 else a.k[1] - a.k[0]
        most = self.form.depth if spans else p.depth
        accs = Tile(self.body, p.rows, p.vectors, p.ways, make).write(spans, depth, most)
        if self.inline:
            self.finisher.registers(accs, start, n, masks)
            return
        memory = self._place(a, line, m, n)
        self._keep(accs, memory, a.block)
        end = f.least(n + p.width, a.n[1])
        if self.blocks == 1:
            call_finish(f, self.finish, memory, start, rows, n, end)
            return
        with self.e.when(a.block.eq(self.blocks - 1), "last"):
            call_finish(f, self.finish, memory, start, rows, n, end)

    def _place(self, a: Area, line: Val, m: Val, n: Val) -> Val:
        """Where the tile is kept."""
        p = self.plan
        if self.blocks == 1:
            return self.tiles
        number = (m - a.m[0]) / p.rows * (self._width // p.width) + (n - a.n[0]) / p.width
        if self.form.lines:
            each = ceil(p.unit_rows / p.rows) * (self._width // p.width)
            number = (line - a.lines[0]) * each + number
        return self.e.gep(self.tiles, number * self._tile_size, self.type)

    def _left_readers(self, m: Val, k_lo: Val) -> list[Reader]:
        if self.plan.pack_left:
            return [x.reader(self.f, m, k_lo) for x in self.left]
        return [left_reader(self.f, x, m, k_lo) for x in (*self.form.left, *self.form.middle)]

    def _keep(self, accs: list[list[Planes]], memory: Val, block: Val) -> None:
        """Put a tile into memory, added to what earlier blocks gave."""
        e, p = self.e, self.plan
        if self.blocks > 1:
            with e.when(block.eq(0), "first"), \
                    e.loop(0, self._tile_size, p.lanes, stem="zero") as loop:
                e.store(e.const(self.type, 0, p.lanes), e.gep(memory, loop.i, self.type))
        for i, row in enumerate(accs):
            for v, acc in enumerate(row):
                at = [e.gep(memory, (i * self.planes + q) * p.width + v * p.lanes, self.type)
                      for q in range(self.planes)]
                if self.blocks > 1:
                    acc = self.body.add(acc, tuple(e.load(x, self.type, p.lanes) for x in at))
                for x, address in zip(acc, at):
                    e.store(x, address)

    def _masks(self, n: Val, n_hi: Val) -> list[Val | None]:
        """Live lanes of the tile's vectors; None where all always are."""
        e, p = self.e, self.plan
        if self.form.columns % p.width == 0 or not self.masked \
                or (p.pack_right and not self.inline):
            return [None] * p.vectors
        left = e.convert(n_hi - n, "i32")
        return [e.iota("i32", p.lanes) < e.splat(left - v * p.lanes, p.lanes)
                for v in range(p.vectors)]


def _item(leaf: Leaf) -> int:
    return DTYPES[plane_type(leaf.expr.dtype)].itemsize


def _rounded(size: int) -> int:
    return (size + 63) // 64 * 64
