"""Copying a contraction's operands into the order in which its tiles read them.

Right panels are as wide as a tile: `panel[column // width][k][plane][column % width]`; for the
left side see `gemm_left`. What is packed is the leaf's value: conversions and other arithmetic
that belongs to one side are done once, here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from weft.compiler.kernel.index import Axis
from weft.compiler.lazy_dataclass import dataclass
from weft.devices.cpu.emit import BITS, Emitter, Val
from weft.devices.cpu.evaluate import Evaluator
from weft.devices.cpu.gemm_form import Leaf
from weft.devices.cpu.gemm_micro import plane_type, read_element, to_planes
from weft.devices.cpu.lower import memory_type

__all__ = ["Packer", "Range", "element_type", "sweep"]

AHEAD = 6       # rows by which packing asks ahead
Place = Callable[[Val, Val, int], Val]     # (outer turn, inner turn, plane) -> address of the copy


@dataclass(frozen=True)
class Range:
    """A stretch of an axis. `whole` says that its length is a multiple of the lanes."""

    axis: Axis
    lo: Val
    hi: Val
    whole: bool = False


def element_type(leaf: Leaf) -> str:
    """The unit of address arithmetic of the buffer that a plain leaf reads."""
    assert leaf.load is not None
    return {"c64": "i64", "c128": "c128"}.get(leaf.load.dtype.name, memory_type(leaf.load.dtype))


def sweep(e: Emitter, lo: Val, hi: Val, lanes: int, whole: bool, masked: bool,
          write: Callable[[Val, int, Val | None], None]) -> None:
    """`write(i, lanes, mask)` over [lo, hi) in vectors, the rest masked or one by one.

    `whole` promises that nothing is left over.
    """
    if lanes == 1 or whole:
        with e.loop(lo, hi, lanes, stem="vec") as loop:
            write(loop.i, lanes, None)
        return
    end = hi - (hi - lo) % lanes
    with e.loop(lo, end, lanes, stem="vec") as loop:
        write(loop.i, lanes, None)
    if masked:
        with e.when(end < hi, "tail"):
            write(end, lanes, e.iota("i64", lanes) < e.splat(hi - end, lanes))
        return
    with e.loop(end, hi, 1, stem="tail") as loop:
        write(loop.i, 1, None)


def transposed(e: Emitter, rows: Sequence[Val]) -> list[Val]:
    """Elements k of every row in vector k, for as many elements as fill 16 bytes.

    The rows, as many as a vector has lanes, are joined so that 16-byte lane g of vector j holds
    row `g * size + j`; squares within the lanes are then transposed by unpacking instructions.
    """
    size = rows[0].lanes
    joined = []
    for j in range(size):
        parts = list(rows[j::size])
        while len(parts) > 1:
            parts = [e.shuffle(a, b, range(2 * a.lanes)) for a, b in zip(parts[::2], parts[1::2])]
        joined.append(parts[0])
    if size == 2:
        return _unpacked(e, joined[0], joined[1], 2, 1)
    low = _unpacked(e, joined[0], joined[1], 4, 1)
    high = _unpacked(e, joined[2], joined[3], 4, 1)
    return [*_unpacked(e, low[0], high[0], 4, 2), *_unpacked(e, low[1], high[1], 4, 2)]


def _unpacked(e: Emitter, a: Val, b: Val, size: int, group: int) -> list[Val]:
    """Groups of elements of a and b in turn: of the lower, and of the upper halves of the lanes."""
    out = []
    for half in (0, 1):
        order = [lane + half * size // 2 + i // (2 * group) * group + i % group
                 + (a.lanes if i // group % 2 else 0)
                 for lane in range(0, a.lanes, size) for i in range(size)]
        out.append(e.shuffle(a, b, order))
    return out


class Packer:
    """Writes the copying loops."""

    def __init__(self, e: Emitter, ev: Evaluator, lanes: int, masked: bool) -> None:
        self.e = e
        self.ev = ev
        self.lanes = lanes
        self.masked = masked

    def copy(self, leaf: Leaf, outer: Range, inner: Range, at: Place) -> None:
        """Copy the leaf's values over two ranges: vectors along the inner one where its elements
        lie one behind the other, along the outer one by transposing squares, else one by one."""
        step = leaf.step(inner.axis)
        if step in (0, 1) or leaf.load is None:
            self._along(leaf, outer, inner, at, self.lanes)
        elif self._can_transpose(leaf, outer):
            self._across(leaf, outer, inner, at)
        else:
            self._along(leaf, inner, outer, lambda i, o, p: at(o, i, p), 1)

    def _along(self, leaf: Leaf, outer: Range, inner: Range, at: Place, lanes: int) -> None:
        e, ev = self.e, self.ev
        with e.loop(outer.lo, outer.hi, stem="pack") as loop, ev.scope():
            ev.axes[outer.axis] = loop.i

            def write(i: Val, width: int, mask: Val | None) -> None:
                with ev.scope():
                    ev.axes[inner.axis] = i
                    if width > 1 and mask is None and leaf.load is not None:
                        self._ask_ahead(leaf, outer, loop.i, inner, i)
                    ev.vector, ev.lanes, ev.mask = inner.axis, width, mask
                    planes = to_planes(e, ev.splat(ev.value(leaf.expr), width), leaf.expr.dtype)
                    for p, x in enumerate(planes):
                        e.store(x, at(loop.i - outer.lo, i - inner.lo, p), mask)
            sweep(e, inner.lo, inner.hi, lanes, inner.whole, self.masked, write)

    def _ask_ahead(self, leaf: Leaf, outer: Range, turn: Val, inner: Range, i: Val) -> None:
        """Prefetch what the outer loop reads a few turns later: a short row ends before the
        hardware has noticed that it is read in order."""
        if (leaf.step(outer.axis) or 0) > 1:
            prefetch(self.e, address(self.ev, leaf, {outer.axis: turn + AHEAD, inner.axis: i}))

    # ---- transposing

    def _can_transpose(self, leaf: Leaf, outer: Range) -> bool:
        size = BITS[plane_type(leaf.expr.dtype)] // 8
        return (leaf.load is not None and leaf.step(outer.axis) == 1 and size >= 4
                and self.lanes * size >= 16 and leaf.planes == 1)

    def _across(self, leaf: Leaf, outer: Range, inner: Range, at: Place) -> None:
        """Blocks of lanes x 16 bytes; what is left over on either side goes one by one."""
        n, size = self.lanes, 128 // BITS[plane_type(leaf.expr.dtype)]
        inner_end = inner.lo + (inner.hi - inner.lo) / n * n
        outer_end = outer.lo + (outer.hi - outer.lo) / size * size
        with self.e.loop(inner.lo, inner_end, n, stem="block") as column, \
                self.e.loop(outer.lo, outer_end, size, stem="turn") as row:
            self._block(leaf, outer, inner, at, row.i, column.i)
        if not outer.whole:
            self._rest(leaf, Range(outer.axis, outer_end, outer.hi), inner,
                       lambda o, i, p: at(o + (outer_end - outer.lo), i, p))
        if not inner.whole:
            self._rest(leaf, Range(outer.axis, outer.lo, outer_end),
                       Range(inner.axis, inner_end, inner.hi),
                       lambda o, i, p: at(o, i + (inner_end - inner.lo), p))

    def _rest(self, leaf: Leaf, outer: Range, inner: Range, at: Place) -> None:
        self._along(leaf, inner, outer, lambda i, o, p: at(o, i, p), 1)

    def _block(self, leaf: Leaf, outer: Range, inner: Range, at: Place, row: Val,
               column: Val) -> None:
        e, size = self.e, 128 // BITS[plane_type(leaf.expr.dtype)]
        base = address(self.ev, leaf, {outer.axis: row, inner.axis: column})
        step, rows = leaf.step(inner.axis), []
        for i in range(self.lanes):
            there = e.gep(base, i * step, element_type(leaf)) if step is not None else \
                address(self.ev, leaf, {outer.axis: row, inner.axis: column + i})
            rows.append(read_element(e, leaf, there, size, None)[0])
        for i, x in enumerate(transposed(e, rows)):
            e.store(x, at(row - outer.lo + i, column - inner.lo, 0))


def prefetch(e: Emitter, address: Val) -> None:
    """Ask for a line of memory, which need not be valid, in L2."""
    e.declares.add("declare void @llvm.prefetch.p0(ptr, i32, i32, i32)")
    e.write(f"call void @llvm.prefetch.p0(ptr {address.ref}, i32 0, i32 2, i32 1)")


def address(ev: Evaluator, leaf: Leaf, axes: dict[Axis, Val]) -> Val:
    """Where a plain leaf's element lies for these values of axes (the others as they are)."""
    assert leaf.load is not None
    with ev.scope():
        ev.axes.update(axes)
        ev.vector, ev.lanes = None, 1
        return ev.e.gep(ev.pointers[leaf.load.what], ev.index(leaf.load.index[0]),
                        element_type(leaf))
