"""What happens to a contraction's tiles after the last turn: the epilogue and its stores."""

from __future__ import annotations

from collections.abc import Sequence

from weft.compiler.kernel.construct import expr_cost
from weft.compiler.kernel.expr import walk
from weft.devices.cpu.emit import Emitter, Val
from weft.devices.cpu.evaluate import Evaluator
from weft.devices.cpu.gemm_form import Form
from weft.devices.cpu.gemm_frame import Frame
from weft.devices.cpu.gemm_micro import Planes, from_planes, plane_type
from weft.devices.cpu.gemm_pack import sweep

__all__ = ["Finisher", "call_finish", "epilogue_cost", "write_finish"]


def epilogue_cost(form: Form) -> float:
    """Flops of the epilogue for one element."""
    return sum(map(expr_cost, walk(*(s.value for s in form.stores))))


class Finisher:
    """Writes epilogues: of accumulators still in registers, or of tiles in memory."""

    def __init__(self, e: Emitter, ev: Evaluator, form: Form, lanes: int,
                 masked: bool) -> None:
        self.e = e
        self.ev = ev
        self.form = form
        self.lanes = lanes
        self.masked = masked

    def vector(self, acc: Planes, m: Val, n: Val, lanes: int, mask: Val | None) -> None:
        """The epilogue of one vector of results."""
        ev, f = self.ev, self.form
        with ev.scope():
            if f.m is not None:
                ev.axes[f.m] = m
            ev.axes[f.n] = n
            ev.vector, ev.lanes, ev.mask = f.n, lanes, mask
            ev.accs[f.reduce.number] = from_planes(acc, f.dtype)
            for s in f.stores:
                ev.store(s.buffer, s.index[0], ev.value(s.value), mask)

    def registers(self, accs: Sequence[Sequence[Planes]], m: Val, n: Val,
                  masks: Sequence[Val | None]) -> None:
        """The epilogue of a tile's accumulators, written out for each."""
        for i, row in enumerate(accs):
            for v, acc in enumerate(row):
                self.vector(acc, m + i, n + v * self.lanes, self.lanes, masks[v])

    def memory(self, tile: Val, width: int, m: Val, rows: tuple[Val, Val], n: Val, end: Val,
               whole: bool) -> None:
        """The epilogue of rows [rows) and columns [n, end) of a tile in memory."""
        e = self.e
        kind = plane_type(self.form.dtype)
        planes = 2 if self.form.dtype.is_complex else 1

        def write(i: Val, lanes: int, mask: Val | None) -> None:
            with e.loop(*rows, stem="row") as row:
                at = row.i * (planes * width) + (i - n)
                acc = tuple(e.load(e.gep(tile, at + p * width, kind), kind, lanes)
                            for p in range(planes))
                self.vector(acc, m + row.i, i, lanes, mask)
        sweep(e, n, end, self.lanes, whole, self.masked, write)



_ARGUMENTS = ("m", "row0", "row1", "n", "end")


def write_finish(f: Frame, masked: bool) -> str:
    """Write the epilogue of a tile in memory as a function; gives its arguments as text.

    Inside the loops around a tile its constants would be kept in registers that the accumulators
    need.
    """
    e, form, p = f.e, f.form, f.plan
    m, row0, row1, n, end = (e.arg(x, "i64") for x in _ARGUMENTS)
    for i, axis in enumerate(form.batch):
        f.ev.axes[axis] = e.arg(f"b{i}", "i64")
    Finisher(e, f.ev, form, p.lanes, masked).memory(
        e.arg("tile", "ptr"), p.width, m, (row0, row1), n, end, form.columns % p.lanes == 0)
    names = (*_ARGUMENTS, *(f"b{i}" for i in range(len(form.batch))))
    return ", ".join(["ptr %tile", *(f"i64 %{x}" for x in names)])


def call_finish(f: Frame, symbol: str, memory: Val, m: Val, rows: tuple[Val, Val], n: Val,
                end: Val) -> None:
    """Call the function that `write_finish` wrote."""
    values = [m, *rows, n, end, *(f.ev.axes[a] for a in f.form.batch)]
    text = ", ".join(f"i64 {v.ref}" for v in values)
    f.e.write(f"call void @{symbol}(ptr %ctx, ptr {memory.ref}, {text})")
