"""One row: a vector times a matrix that is read in order, once.

A few turns of k at a time run along all of a unit's columns, so that memory is read in as many
long runs. The sums lie in the unit's memory, which L1 holds.
"""

from __future__ import annotations

from weft.compiler.kernel.expr import Expr
from weft.compiler.types import DTYPES
from weft.devices.cpu.emit import Val
from weft.devices.cpu.gemm_finish import Finisher
from weft.devices.cpu.gemm_frame import Frame
from weft.devices.cpu.gemm_micro import Body, Planes, plane_type
from weft.devices.cpu.gemm_pack import sweep
from weft.devices.cpu.gemm_read import left_reader, right_reader

__all__ = ["write_stream"]

TURNS = 8      # rows of the matrix read side by side


def write_stream(f: Frame, masked: bool) -> None:
    """Write the units: some columns each."""
    e, p, form = f.e, f.plan, f.form
    kind, zero = plane_type(form.dtype), e.const("i64", 0)
    planes = 2 if form.dtype.is_complex else 1
    size = planes * p.unit_columns * DTYPES[kind].itemsize
    e.declares |= {"declare ptr @weft_alloc(i64)", "declare void @weft_free(ptr)"}
    sums = e.assign(f"call ptr @weft_alloc(i64 {size})", "ptr")
    finisher = Finisher(e, f.ev, form, p.lanes, masked)
    with f.units() as unit:
        unit, column = f.divided(unit, -(-form.columns // p.unit_columns))
        f.place_batch(unit, form.batch)
        n_lo = column * p.unit_columns
        n = n_lo, f.least(n_lo + p.unit_columns, form.columns)
        with e.loop(0, p.unit_columns * planes, p.lanes, stem="zero") as loop:
            e.store(e.const(kind, 0, p.lanes), e.gep(sums, loop.i, kind))
        some = form.depth // TURNS * TURNS
        for lo, hi, turns in ((0, some, TURNS), (some, form.depth, 1)):
            if lo < hi:
                with e.loop(lo, hi, turns, stem="k") as k, f.ev.scope():
                    _Turns(f, sums, k.i, turns).write(n, masked)
        finisher.memory(sums, p.unit_columns, zero, (zero, e.const("i64", 1)), *n,
                        form.columns % p.lanes == 0)
    e.write(f"call void @weft_free(ptr {sums.ref})")


class _Turns:
    """A few turns along all columns."""

    def __init__(self, f: Frame, sums: Val, k: Val, turns: int) -> None:
        self.f, self.sums, self.k, self.turns = f, sums, k, turns
        e = f.e
        readers = [left_reader(f, x, e.const("i64", 0), k) for x in f.form.middle]
        self.held: list[dict[Expr, Planes]] = [
            {r.leaf.expr: r.at(e.const("i64", t), 0) for r in readers} for t in range(turns)]
        self.wide = [{x: tuple(e.splat(v, f.plan.lanes) for v in planes)
                      for x, planes in turn.items()} for turn in self.held]

    def write(self, n: tuple[Val, Val], masked: bool) -> None:
        """The loop over the columns."""
        p, form = self.f.plan, self.f.form
        sweep(self.f.e, *n, p.lanes, form.columns % p.lanes == 0, masked,
              lambda i, lanes, mask: self._vector(i, i - n[0], lanes, mask))

    def _vector(self, column: Val, offset: Val, lanes: int, mask: Val | None) -> None:
        f, e, form = self.f, self.f.e, self.f.form
        body, kind = Body(e, form, lanes), plane_type(form.dtype)
        at = [e.gep(self.sums, offset + q * f.plan.unit_columns, kind)
              for q in range(len(body.start()))]
        acc: Planes = tuple(e.load(a, kind, lanes) for a in at)
        right = [right_reader(f, x, column, self.k, [mask], lanes) for x in form.right]
        for t in range(self.turns):
            turn = e.const("i64", t)
            acc = body.step(acc, {**(self.wide if lanes > 1 else self.held)[t],
                                  **{r.leaf.expr: r.at(turn, 0) for r in right}})
        for x, a in zip(acc, at):
            e.store(x, a)
