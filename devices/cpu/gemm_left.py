"""Packing a contraction's left side, in a phase of its own.

A tile broadcasts elements of a few rows, turn by turn. Rows whose distance is a multiple of the
size of a cache way displace each other from L1, rows that lie across memory touch a page a turn,
and conversions would be repeated for every panel; then the left side is copied first: along k with
rows an odd number of cache lines apart (layout "k": `[row][plane][k]`), or along m
(layout "m": `[tile][k][plane][row in the tile]`).
"""

from __future__ import annotations

from math import ceil

from weft.compiler.kernel.index import Axis
from weft.compiler.types import DTYPES, Dim, numel
from weft.devices.cpu.emit import Val
from weft.devices.cpu.gemm_form import Form, Leaf
from weft.devices.cpu.gemm_frame import Frame, extent
from weft.devices.cpu.gemm_micro import Planes, Reader, plane_type
from weft.devices.cpu.gemm_pack import Packer, Range
from weft.devices.cpu.gemm_plan import Plan

__all__ = ["LeftCopy", "copies", "pack_left"]

_ONE = Axis("one", 1)
LINE = 16      # elements; rows are an odd number of these apart: in different cache sets


class LeftCopy:
    """Where one leaf's copy lies in the workspace, and how."""

    def __init__(self, form: Form, plan: Plan, leaf: Leaf, offset: Dim) -> None:
        self.form = form
        self.leaf = leaf
        self.offset = offset
        self.type = plane_type(leaf.expr.dtype)
        self.along_m = plan.pack_left == "m" and form.m in leaf.expr.axes
        self.tile = plan.rows
        self.batch = tuple(a for a in form.batch if a in leaf.expr.axes)
        if self.along_m:
            self.plane = ceil(plan.rows / 4) * 4
            self.row, self.turn = 1, leaf.planes * self.plane
        else:
            self.plane = (ceil(form.depth / LINE) | 1) * LINE
            self.row, self.turn = leaf.planes * self.plane, 1

    @property
    def block(self) -> int:
        """Elements from one tile's rows to the next one's."""
        return self.form.depth * self.turn if self.along_m else self.tile * self.row

    @property
    def matrix(self) -> Dim:
        """Elements of one batch's copy, whole tiles of it."""
        if self.form.m is None or self.form.m not in self.leaf.expr.axes:
            return self.row
        rows = self.form.rows
        if isinstance(rows, int):
            return ceil(rows / self.tile) * self.block
        return (rows + self.tile) * (ceil(self.block / self.tile))

    @property
    def nbytes(self) -> Dim:
        """Bytes of the copy."""
        return numel(map(extent, self.batch)) * self.matrix * DTYPES[self.type].itemsize

    def base(self, f: Frame) -> Val:
        """Address of this batch's copy."""
        number = f.e.const("i64", 0)
        for axis in self.batch:
            number = number * f.ev.dim(extent(axis)) + f.ev.axes[axis]
        start = f.e.gep(f.workspace, f.ev.dim(self.offset), "i8")
        return f.e.gep(start, number * f.ev.dim(self.matrix), self.type)

    def reader(self, f: Frame, m: Val, k_lo: Val) -> Reader:
        """A tile's access; `m` is a multiple of the tile's rows."""
        e, leaf = f.e, self.leaf
        at_row = m / self.tile * self.block if f.form.m in leaf.expr.axes else e.const("i64", 0)
        start = e.gep(self.base(f), at_row + k_lo * self.turn, self.type)

        def read(k: Val, i: int) -> Planes:
            at = e.gep(start, k * self.turn if self.turn != 1 else k, self.type)
            return tuple(e.load(e.gep(at, i * self.row + q * self.plane, self.type), self.type)
                         for q in range(leaf.planes))
        return Reader(leaf, read)


def copies(form: Form, plan: Plan) -> list[LeftCopy]:
    """The copies of all that a tile broadcasts, one behind the other."""
    out: list[LeftCopy] = []
    offset: Dim = 0
    for leaf in (*form.left, *form.middle):
        out.append(LeftCopy(form, plan, leaf, offset))
        offset = offset + out[-1].nbytes
    return out


def pack_left(f: Frame, all_copies: list[LeftCopy], chunks: int, masked: bool) -> None:
    """Write the copying of units: chunks of rows of every batch."""
    packer = Packer(f.e, f.ev, f.plan.lanes, masked)
    with f.units() as unit:
        number, chunk = f.divided(unit, chunks)
        f.place_batch(number, f.form.batch)
        lo, hi = f.rows(chunk, 0, chunks, f.plan.rows)
        for copy in all_copies:
            _pack(f, packer, copy, lo, hi)


def _pack(f: Frame, packer: Packer, copy: LeftCopy, lo: Val, hi: Val) -> None:
    e, form = f.e, f.form
    base, zero = copy.base(f), e.const("i64", 0)
    m = form.m or _ONE
    k = Range(form.k, zero, e.const("i64", form.depth), form.depth % f.plan.lanes == 0)
    if m not in copy.leaf.expr.axes:
        packer.copy(copy.leaf, Range(m, zero, e.const("i64", 1)), k, lambda i, j, q: e.gep(
            base, j + q * copy.plane, copy.type))
        return
    if not copy.along_m:
        packer.copy(copy.leaf, Range(m, lo, hi), k, lambda i, j, q: e.gep(
            base, (lo + i) * copy.row + j + q * copy.plane, copy.type))
        return
    with e.loop(lo, hi, f.plan.rows, stem="tile") as tile, f.ev.scope():
        rows = Range(m, tile.i, f.least(tile.i + f.plan.rows, hi))
        start = e.gep(base, tile.i / f.plan.rows * copy.block, copy.type)
        packer.copy(copy.leaf, k, rows, lambda j, i, q: e.gep(
            start, j * copy.turn + i + q * copy.plane, copy.type))
