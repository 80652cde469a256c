"""Readers: how a tile finds its operands in the arrays themselves, and in packed panels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack

from weft.devices.cpu.emit import Val
from weft.devices.cpu.gemm_form import Leaf
from weft.devices.cpu.gemm_frame import Frame
from weft.devices.cpu.gemm_micro import Planes, Reader, plane_type, read_element
from weft.devices.cpu.gemm_pack import Packer, Range, address, element_type

__all__ = ["left_reader", "pack_right", "packed_reader", "right_reader"]


def left_reader(f: Frame, leaf: Leaf, m: Val, k_lo: Val) -> Reader:
    """Single elements of rows m, m+1, … of the array."""
    e, form = f.e, f.form
    base = address(f.ev, leaf, {form.k: k_lo} if form.m is None else {form.k: k_lo, form.m: m})
    turn, row, kind = leaf.step(form.k) or 0, leaf.step(form.m) or 0, element_type(leaf)

    def read(k: Val, i: int) -> Planes:
        at = base if turn == 0 else e.gep(base, k * turn if turn != 1 else k, kind)
        return read_element(e, leaf, e.gep(at, i * row, kind), 1, None)
    return Reader(leaf, read)


def right_reader(f: Frame, leaf: Leaf, n: Val, k_lo: Val, masks: Sequence[Val | None],
                 lanes: int) -> Reader:
    """Vectors of columns n, n + lanes, … of the array."""
    e, form = f.e, f.form
    base = address(f.ev, leaf, {form.k: k_lo, form.n: n})
    turn, kind = leaf.step(form.k) or 0, element_type(leaf)

    def read(k: Val, v: int) -> Planes:
        at = base if turn == 0 else e.gep(base, k * turn, kind)
        return read_element(e, leaf, e.gep(at, v * lanes, kind), lanes, masks[v])
    return Reader(leaf, read)


def packed_reader(f: Frame, leaf: Leaf, region: Val, column: Val) -> Reader:
    """Vectors, from the current turn of the loops around k on, of the panel that begins with this
    column of the unit."""
    e, p, kind = f.e, f.plan, plane_type(leaf.expr.dtype)
    start = column / p.width * (p.turns * leaf.planes * p.width)
    base = e.gep(region, start + f.turn() * (leaf.planes * p.width), kind)

    def read(k: Val, v: int) -> Planes:
        at = e.gep(base, k * (leaf.planes * p.width), kind)
        return tuple(e.load(e.gep(at, q * p.width + v * p.lanes, kind), kind, p.lanes)
                     for q in range(leaf.planes))
    return Reader(leaf, read)


def pack_right(f: Frame, leaf: Leaf, region: Val, columns: tuple[Val, Val],
               turns: tuple[Val, Val], masked: bool) -> None:
    """Write the copying of a block of the right side into panels."""
    p, form = f.plan, f.form
    spans, (lo, hi) = f.spans(turns)
    whole = form.columns % p.lanes == 0 and p.unit_columns % p.lanes == 0
    even = form.depth % p.lanes == 0 and (p.split < len(form.outer) or p.depth % p.lanes == 0)
    k = Range(form.k, f.e.like(columns[0], lo), f.e.like(columns[0], hi), even)
    with ExitStack() as stack:
        for span in spans:
            loop = stack.enter_context(f.e.loop(span.lo, span.hi, 1, stem="span"))
            stack.enter_context(span.enter(loop.i))
        Packer(f.e, f.ev, p.lanes, masked).copy(leaf, k, Range(form.n, *columns, whole),
                                                _panel_place(f, leaf, region))


def _panel_place(f: Frame, leaf: Leaf, region: Val) -> Callable[[Val, Val, int], Val]:
    p, kind, turn = f.plan, plane_type(leaf.expr.dtype), f.turn()

    def place(k: Val, column: Val, plane: int) -> Val:
        panel, rest = f.divided(column, p.width)
        row = (panel * p.turns + (turn + k)) * (leaf.planes * p.width)
        return f.e.gep(region, row + rest + plane * p.width, kind)
    return place
