"""One row against a matrix whose rows lie along k: dot products, several of them side by side.

A few rows of the matrix are read at once, so that each part of the vector is loaded once for all
of them and their additions do not wait for one another. Lanes lie along k; the rows' sums are
folded into one vector, which the epilogue takes as it takes any other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from weft.devices.cpu.emit import Emitter, Val
from weft.devices.cpu.gemm_finish import Finisher
from weft.devices.cpu.gemm_frame import Frame
from weft.devices.cpu.gemm_micro import Body, Planes, to_planes

__all__ = ["WAYS", "fold", "write_beside"]

WAYS = 8      # accumulators that keep the adders busy


def write_beside(f: Frame, masked: bool) -> None:
    """Write the units: some rows of the matrix each."""
    e, p, form = f.e, f.plan, f.form
    finisher = Finisher(e, f.ev, form, p.rows, masked)
    with f.units() as unit:
        unit, part = f.divided(unit, -(-form.columns // p.unit_columns))
        f.place_batch(unit, form.batch)
        lo = part * p.unit_columns
        hi = f.least(lo + p.unit_columns, form.columns)
        some = hi if form.columns % p.rows == 0 else hi - (hi - lo) % p.rows
        for first, end, rows in ((lo, some, p.rows), (some, hi, 1)):
            if first is end:
                continue
            with e.loop(first, end, rows, stem="rows") as loop, f.ev.scope():
                sums = _Rows(f, loop.i, rows, masked).sums()
                finisher.vector(sums, e.const("i64", 0), loop.i, rows, None)


class _Rows:
    """Dot products of `rows` neighbouring rows."""

    def __init__(self, f: Frame, first: Val, rows: int, masked: bool) -> None:
        self.f, self.rows, self.masked = f, rows, masked
        self.at = [first + r if r else first for r in range(rows)]
        self.ways = max(1, WAYS // rows)

    def sums(self) -> Planes:
        """The sums, one in each lane."""
        f, lanes, depth = self.f, self.f.plan.lanes, self.f.form.depth
        body = Body(f.e, f.form, lanes)
        accs = [body.start() for _ in range(self.ways * self.rows)]
        step = lanes * self.ways
        whole = depth // step * step
        if whole:
            with f.e.loop(0, whole, step, carry=_flat(accs), stem="k") as loop:
                accs = _grouped(loop.carry, len(body.start()))
                for way in range(self.ways):
                    self._vector(body, accs, way, loop.i + way * lanes, None)
                loop.next = _flat(accs)
            accs = _grouped(loop.out, len(body.start()))
        way = 0
        for at in range(whole, depth // lanes * lanes, lanes):
            self._vector(body, accs, way, f.e.const("i64", at), None)
            way += 1
        rest = depth % lanes
        if rest and self.masked:
            mask = f.e.iota("i64", lanes) < f.e.const("i64", rest, lanes)
            self._vector(body, accs, way % self.ways, f.e.const("i64", depth - rest), mask)
        out = fold(f.e, [self._joined(body, accs[r::self.rows]) for r in range(self.rows)],
                   body.add)
        return body.add(out, self._tail(depth - rest)) if rest and not self.masked else out

    def _joined(self, body: Body, ways: Sequence[Planes]) -> Planes:
        ways = list(ways)
        while len(ways) > 1:
            ways = [body.add(a, b) for a, b in zip(ways[::2], ways[1::2])]
        return ways[0]

    def _vector(self, body: Body, accs: list[Planes], way: int, k: Val, mask: Val | None) -> None:
        """One vector of turns of every row, into the accumulators of a way."""
        f, ev, form = self.f, self.f.ev, self.f.form
        with ev.scope():
            ev.axes[form.k], ev.vector, ev.lanes, ev.mask = k, form.k, body.lanes, mask
            middle = {x.expr: to_planes(f.e, ev.value(x.expr), x.expr.dtype) for x in form.middle}
            for r, row in enumerate(self.at):
                with ev.inside():
                    ev.axes[form.n] = row
                    right = {x.expr: to_planes(f.e, ev.value(x.expr), x.expr.dtype)
                             for x in form.right}
                    old = accs[way * self.rows + r]
                    new = body.step(old, {**middle, **right})
                if mask is not None:
                    new = tuple(f.e.select(mask, a, b) for a, b in zip(new, old))
                accs[way * self.rows + r] = new

    def _tail(self, first: int) -> Planes:
        """The sums over what does not fill a vector, one in each lane."""
        f, e = self.f, self.f.e
        body = Body(e, f.form, 1)
        start = [body.start() for _ in range(self.rows)]
        self_ways, self.ways = self.ways, 1
        with e.loop(first, f.form.depth, 1, carry=_flat(start), stem="tail") as loop:
            accs = _grouped(loop.carry, len(body.start()))
            self._vector(body, accs, 0, loop.i, None)
            loop.next = _flat(accs)
        self.ways = self_ways
        done = _grouped(loop.out, len(body.start()))
        if self.rows == 1:
            return done[0]
        planes = []
        for parts in zip(*done):
            wide = e.undef(parts[0].dtype, self.rows)
            for lane, part in enumerate(parts):
                wide = e.insert(wide, lane, part)
            planes.append(wide)
        return tuple(planes)


def fold(e: Emitter, rows: Sequence[Planes], add: Callable[[Planes, Planes], Planes]) -> Planes:
    """The sums over the lanes of every row, row r's in lane r.

    Two vectors that hold g sums each in parts become one that holds 2*g, as wide as they are;
    then halves of the parts are added up until each is one lane.
    """
    lanes, groups, now = rows[0][0].lanes, 1, list(rows)
    while len(now) > 1:
        each = lanes // groups
        order = [g * each + i for g in range(2 * groups) for i in range(each // 2)]
        now = [_halves(e, a, b, order, each // 2, add) for a, b in zip(now[::2], now[1::2])]
        groups *= 2
    out = now[0]
    while (width := out[0].lanes) > groups:
        each = width // groups
        if width == 2:
            low, high = (tuple(e.extract(p, i) for p in out) for i in (0, 1))
            return add(low, high)
        order = [g * each + i for g in range(groups) for i in range(each // 2)]
        out = _halves(e, out, None, order, each // 2, add)
    return out


def _halves(e: Emitter, a: Planes, b: Planes | None, order: Sequence[int], half: int,
            add: Callable[[Planes, Planes], Planes]) -> Planes:
    others: Sequence[Val | None] = b if b is not None else [None] * len(a)
    low, high = (tuple(e.shuffle(x, y, [i + at for i in order]) for x, y in zip(a, others))
                 for at in (0, half))
    return add(low, high)


def _flat(accs: Sequence[Planes]) -> list[Val]:
    return [v for planes in accs for v in planes]


def _grouped(flat: Sequence[Val], planes: int) -> list[Planes]:
    return [tuple(flat[i:i + planes]) for i in range(0, len(flat), planes)]
